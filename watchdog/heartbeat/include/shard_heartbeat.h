/*
 * The shared-memory heartbeat of shard-watchdog: offsets, limits and codes of ABI version 1, which is final: none of them
 * changes any more. ABI.md beside this folder says what they mean and in which order words are to be written.
 *
 * Every word is an aligned little-endian uint64_t, written and read by atomic operations. Offsets and sizes are in bytes.
 */
#ifndef SHARD_HEARTBEAT_H
#define SHARD_HEARTBEAT_H

#include <stdint.h>

/* The segment. */
#define SHB_MAGIC UINT64_C(0x5441454244524853) /* first word of a complete segment: the bytes SHRDBEAT */
#define SHB_VERSION 1 /* the only version this crate writes or reads */
#define SHB_LINE 64 /* cache line for which hot words are kept apart, in bytes */
#define SHB_HEADER_SIZE 4096 /* size of the header, in bytes: one page, so that slots start page-aligned */
#define SHB_MAX_NAME 15 /* longest name of a thread or channel, in bytes: what the kernel keeps of a thread's name */
#define SHB_MAX_SECTION 12 /* longest name of a section of work, in characters: what one word holds */
#define SHB_SECTION_BASE 40 /* base of the number that is a section's name: 39 characters, and zero for none */
#define SHB_MAX_SHARD 32 /* longest name of a shard, in bytes */
#define SHB_MAX_LAST_WORDS 2048 /* longest last words, in bytes */
#define SHB_MAX_QUARANTINE 8 /* most work keys that the watchdog keeps in quarantine here */
#define SHB_MAX_SLOTS 4096 /* most thread slots or channel slots a segment may declare */
#define SHB_MAX_LANES 128 /* most lanes a thread slot may declare, the thread's own included */
#define SHB_MAX_SEGMENT 16777216 /* largest segment, in bytes: a bound on what a hostile header can make a reader copy in one sample */

/* Header. */
#define SHB_H_MAGIC 0x000 /* SHB_MAGIC, written last */
#define SHB_H_VERSION 0x008 /* SHB_VERSION */
#define SHB_H_HEADER_SIZE 0x010 /* SHB_HEADER_SIZE, in bytes */
#define SHB_H_TOTAL_SIZE 0x018 /* size of the whole segment, in bytes */
#define SHB_H_THREAD_SLOTS 0x020 /* number of thread slots */
#define SHB_H_THREAD_STRIDE 0x028 /* distance between thread slots, in bytes */
#define SHB_H_THREAD_OFFSET 0x030 /* offset of the first thread slot, in bytes */
#define SHB_H_LANES 0x038 /* lanes in each thread slot, the thread's own included */
#define SHB_H_CHANNEL_SLOTS 0x040 /* number of channel slots */
#define SHB_H_CHANNEL_STRIDE 0x048 /* distance between channel slots, in bytes */
#define SHB_H_CHANNEL_OFFSET 0x050 /* offset of the first channel slot, in bytes */
#define SHB_H_PID 0x058 /* process id of the writer, in the writer's pid namespace */
#define SHB_H_START_TIME 0x060 /* start time of the writer, in clock ticks since boot (field 22 of /proc/PID/stat) */
#define SHB_H_INCARNATION 0x068 /* incarnation; larger for each new segment at one path */
#define SHB_H_BOOT_ID 0x070 /* boot id, 16 bytes in the order in which they are printed; zero if unknown */
#define SHB_H_SHARD_LEN 0x080 /* length of the shard's name, in bytes */
#define SHB_H_SHARD 0x088 /* the shard's name, SHB_MAX_SHARD bytes, zero-filled */
#define SHB_H_STATE 0x0c0 /* process state, one of the SHB_STATE_ codes */
#define SHB_H_THREAD_HIGH_WATER 0x100 /* thread slots from this index on were never used */
#define SHB_H_CHANNEL_HIGH_WATER 0x108 /* channel slots from this index on were never used */
#define SHB_H_WATCHDOG_BEAT 0x140 /* the watchdog's beat counter; zero if no watchdog was ever here */
#define SHB_H_WATCHDOG_PID 0x148 /* process id of the watchdog, in the watchdog's pid namespace */
#define SHB_H_WATCHDOG_START_TIME 0x150 /* start time of the watchdog, in clock ticks since boot */
#define SHB_H_LAST_WORDS 0x180 /* how far the last words are, one of the SHB_LAST_WORDS_ codes; changes last */
#define SHB_H_LAST_WORDS_TID 0x188 /* id of the thread that said them, in the writer's pid namespace */
#define SHB_H_LAST_WORDS_LEN 0x190 /* length of the last words, in bytes */
#define SHB_H_LAST_WORDS_TEXT 0x1c0 /* the last words, SHB_MAX_LAST_WORDS bytes of UTF-8 */
#define SHB_H_QUARANTINE 0xa00 /* sequence word of the quarantine, which the watchdog writes; odd while it changes */
#define SHB_H_QUARANTINE_LEN 0xa08 /* number of work keys in quarantine */
#define SHB_H_QUARANTINE_KEYS 0xa10 /* the work keys in quarantine, SHB_MAX_QUARANTINE words */

/* Last words. */
#define SHB_LAST_WORDS_NONE 0 /* none were said */
#define SHB_LAST_WORDS_WRITING 1 /* a thread has the floor and is still writing; readers take it for none */
#define SHB_LAST_WORDS_SAID 2 /* they stand, and nothing changes them any more */

/* Process states. */
#define SHB_STATE_BOOT 1 /* starting, not yet able to work */
#define SHB_STATE_RUNNING 2 /* doing its duty */
#define SHB_STATE_STOPPING 3 /* an orderly stop is under way */
#define SHB_STATE_FAILED 4 /* it gave up by itself */

/* Thread slot. */
#define SHB_T_CLAIM 0x00 /* claim word, generation << 8 | state */
#define SHB_T_TID 0x08 /* thread id, in the writer's pid namespace */
#define SHB_T_START_TIME 0x10 /* start time of the thread, in clock ticks since boot */
#define SHB_T_NAME 0x18 /* name; one byte of length, then SHB_MAX_NAME bytes (stamped) */
#define SHB_T_LANE_HIGH_WATER 0x28 /* lanes from this index on were never used */
#define SHB_T_SEQUENCE 0x40 /* sequence word of the stamp; odd while stamped fields change */
#define SHB_T_ACTIVITY 0x48 /* activity word, even = idle, odd = working */
#define SHB_T_WORK_KEY 0x50 /* work key */
#define SHB_T_ATTEMPT 0x58 /* attempt */
#define SHB_T_DEADLINE 0x60 /* how long the work may stand still, in nanoseconds; zero = none */
#define SHB_T_TRACE_ID 0x68 /* trace id, 16 bytes (stamped) */
#define SHB_T_SPAN_ID 0x78 /* span id, 8 bytes (stamped) */
#define SHB_T_TRACE_FLAGS 0x80 /* trace flags (stamped) */
#define SHB_T_SECTION 0x88 /* the section of the work that the thread is in, from shb_section; zero = none */
#define SHB_T_LANES 0xc0 /* offset of lane 0, the thread's own */

/* Lane, in a thread slot from SHB_T_LANES on; lane 0 is the thread's own. */
#define SHB_L_CLAIM 0x00 /* claim word, as a thread slot's */
#define SHB_L_TID 0x08 /* thread id of the worker */
#define SHB_L_START_TIME 0x10 /* start time of the worker, in clock ticks since boot */
#define SHB_L_PROGRESS 0x18 /* progress counter */
#define SHB_LANE_SIZE 64 /* size of a lane, in bytes */

/* Channel slot. */
#define SHB_C_CLAIM 0x00 /* claim word, as a thread slot's */
#define SHB_C_SEQUENCE 0x08 /* sequence word of the stamp */
#define SHB_C_NAME 0x10 /* name, as a thread slot's (stamped) */
#define SHB_C_CAPACITY 0x20 /* capacity in messages; SHB_CAPACITY_UNBOUNDED = none */
#define SHB_C_SENT 0x40 /* messages sent so far */
#define SHB_C_RECEIVED 0x80 /* messages received so far */
#define SHB_CHANNEL_STRIDE 0xc0 /* size of a channel slot, in bytes */
#define SHB_CAPACITY_UNBOUNDED UINT64_C(0xffffffffffffffff) /* capacity of a channel that has none */

/* States of a claim word, `generation << 8 | state`. */
#define SHB_CLAIM_FREE 0 /* never used */
#define SHB_CLAIM_LIVE 1 /* owned by a thread, a worker or a channel */
#define SHB_CLAIM_LEFT 2 /* given back in order; may be used again */
#define SHB_CLAIM_DROPPED 3 /* its owner ended without giving it back */
#define SHB_CLAIM_FILLING 4 /* being filled; readers treat it as free */

/* Distance between thread slots that have `lanes` lanes. */
#define SHB_THREAD_STRIDE(lanes) (SHB_T_LANES + (lanes) * SHB_LANE_SIZE)

/* The word of a section: its name as a number in base SHB_SECTION_BASE. Zero for a name that is empty, too long, or has a
 * character other than a-z, 0-9, '_', '-' and '.'. */
static inline uint64_t shb_section(const char *name)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789_-.";
    uint64_t word = 0;
    int length = 0;
    for (; *name != 0; name++) {
        uint64_t code = 0;
        while (alphabet[code] != 0 && alphabet[code] != *name) {
            code++;
        }
        if (alphabet[code] == 0 || ++length > SHB_MAX_SECTION) {
            return 0;
        }
        word = word * SHB_SECTION_BASE + code + 1;
    }
    return word;
}

#endif
