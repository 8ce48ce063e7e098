/* For User Mode Linux on a processor whose registers it does not know in full (AMX: 11 KiB).
 *
 * The kernel gives as many of a traced process's extended registers as there is room for, but takes
 * them back only whole: less is EFAULT, and User Mode Linux before 6.13, whose room has a fixed size,
 * panics at its first process. Loaded before libc (LD_PRELOAD), this completes what it gives back by
 * what the process has.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

static long (*next)(int, ...);
/* User Mode Linux has small stacks, and one thread that traces. */
static char whole[64 * 1024];

__attribute__((constructor)) static void find_next(void)
{
    next = (long (*)(int, ...))dlsym(RTLD_NEXT, "ptrace");
}

long ptrace(enum __ptrace_request request, ...)
{
    struct iovec all = {whole, sizeof whole};
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && (unsigned long)address == NT_X86_XSTATE) {
        const struct iovec *given = data;
        if (next(PTRACE_GETREGSET, pid, address, &all) == 0 && given->iov_len < all.iov_len) {
            memcpy(whole, given->iov_base, given->iov_len);
            data = &all;
        }
    }
    return next(request, pid, address, data);
}
