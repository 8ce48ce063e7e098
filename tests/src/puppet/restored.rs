//! A target as a checkpoint leaves it: the same pid and thread ids as before, the same segment
//! mapped for writing, and every task started anew. CRIU needs a page of kernel features for that;
//! this needs one file, so it works wherever ids can be chosen.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::mm::{MapFlags, ProtFlags};
use shard_heartbeat::layout::{L_PROGRESS, T_LANES};
use shard_heartbeat::{Reader, Sample, SlotState};

use super::act::{end_without_a_word, first};
use super::{nursery, serve};
use crate::wait;

/// Between two signs of progress.
const STEP: Duration = Duration::from_millis(5);
/// Another thread that starts in the namespace may get a number first.
const TRIES: u32 = 100;

/// What the program `puppet restored` does: it continues the threads of the segment's writer, which
/// must have ended.
pub(super) fn run(segment: &Path, port: SocketAddr) -> ! {
    let file = Arc::new(File::options().read(true).write(true).open(segment).expect("the segment"));
    let size = usize::try_from(file.metadata().expect("its size").len()).expect("a small file");
    // SAFETY: a new mapping at an address of the kernel's choice, which nobody reads or writes
    // through.
    let mapped = unsafe {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        rustix::mm::mmap(std::ptr::null_mut(), size, rights, MapFlags::SHARED, &*file, 0)
    };
    mapped.expect("a mapping");
    let reader = Reader::open(segment).expect("a segment");
    let mut sample = Sample::default();
    reader.sample(&mut sample).expect("readable");
    let header = reader.header();
    let end = Arc::new(AtomicBool::new(false));
    let mut tid = 0;
    for slot in sample.threads.iter().filter(|slot| slot.claim == SlotState::Live) {
        let at = header.thread_offset + slot.slot as usize * header.thread_stride + T_LANES + L_PROGRESS;
        tid = i32::try_from(slot.tid).expect("a thread id");
        go_on(tid, at as u64, slot.lanes.progress, &file, &end);
    }
    println!("a restored target goes on");
    serve(port, |words| match *words {
        // Its last thread ends without notice.
        ["lose"] => {
            end.store(true, Ordering::Relaxed);
            let task = format!("/proc/self/task/{tid}");
            wait::until("the end of a thread", || (!Path::new(&task).exists()).then_some(()));
            Ok(format!("was={tid}"))
        }
        _ => Err(format!("{words:?} is no order")),
    })
}

/// Starts the thread of that id, which continues its progress where it was.
fn go_on(tid: i32, at: u64, progress: u64, file: &Arc<File>, end: &Arc<AtomicBool>) {
    for _ in 0..TRIES {
        nursery::next_pid(tid).expect("a namespace in which ids can be chosen");
        let (begun, ready) = channel();
        let (file, end) = (Arc::clone(file), Arc::clone(end));
        std::thread::spawn(move || {
            let own = rustix::thread::gettid().as_raw_nonzero().get();
            begun.send(own).expect("somebody waits");
            for step in progress + 1.. {
                if own != tid {
                    return;
                }
                file.write_all_at(&step.to_le_bytes(), at).expect("the segment is there");
                std::thread::sleep(STEP);
                if end.load(Ordering::Relaxed) {
                    end_without_a_word();
                }
            }
        });
        if first(&ready) == tid {
            return;
        }
    }
    panic!("thread id {tid} was not given out again in {TRIES} tries");
}
