//! What the sidecar and its evidence helper say to each other: one JSON document a packet.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::permission::Missing;

/// No message is longer. The longest is an answer with its soft errors.
const LONGEST: usize = 16 << 10;
/// The soft errors in an answer are cut to this many bytes: they are a report of several kilobytes
/// if many threads could not be read, and the dump has all of it.
pub(super) const LONGEST_SOFT_ERRORS: usize = 4 << 10;

/// A dump to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The process.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
    /// The thread that it is about.
    pub tid: i32,
    /// How long the process may stand still, by the estimate of the helper.
    pub time_limit: Duration,
    /// With more threads than this, none is dumped: the writer attaches to all or none.
    pub most_threads: u32,
}

/// What the helper says while it works. The last one of a request is `Done` or `Refused`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// From now on the target may be stopped.
    Stops,
    /// The helper has let the target run on.
    Runs,
    /// The descriptor of the dump comes with this message.
    Done(Account),
    /// There is no dump.
    Refused(Refusal),
}

/// About a dump that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Threads in the dump.
    pub threads: u32,
    /// Threads that the process had just before.
    pub threads_before: u32,
    /// Size of the dump.
    pub bytes: u64,
    /// How long the target stood still, at most.
    pub stood_still: Duration,
    /// What could not be read, as the JSON document of the writer, perhaps cut; empty if
    /// everything could.
    pub soft_errors: String,
}

/// Why the helper took no dump. In each case the target was left as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The process has ended or is ending.
    #[error("process {0} has ended")]
    Ended(i32),
    /// The pid now belongs to another process.
    #[error("pid {0} belongs to another process now")]
    OtherProcess(i32),
    /// It may not be dumped.
    #[error("process {pid} {missing}")]
    NoPermission {
        /// The process.
        pid: i32,
        /// Why, and how to grant it.
        missing: Missing,
    },
    /// It was stopped already.
    #[error("process {0} is stopped (state T), and a dump would let it run on")]
    Stopped(i32),
    /// Somebody else traces it.
    #[error("process {pid} is traced by process {tracer}, and a process can have only one tracer")]
    Traced {
        /// The process.
        pid: i32,
        /// Its tracer.
        tracer: i32,
    },
    /// One of its threads cannot be stopped.
    #[error(
        "thread {0} sleeps uninterruptibly (state D): it cannot be stopped, and the others would wait for it"
    )]
    Uninterruptible(i32),
    /// More threads than the time limit allows.
    #[error(
        "the process has {threads} threads, and its dump would stop it for longer than evidence.time_limit: \
         that allows {most}"
    )]
    TooManyThreads {
        /// How many it has.
        threads: u32,
        /// How many are allowed.
        most: u32,
    },
    /// The dump is larger than a file of an incident may be.
    #[error("the dump has {0} bytes, more than is kept of an incident")]
    TooLarge(u64),
    /// The writer failed.
    #[error("the dump could not be written: {0}")]
    Failed(String),
}

/// Sends one message, with `file` if given. Never waits.
pub(super) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > LONGEST {
        return Err(io::Error::other("a message is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|file| [file]);
    if let Some(files) = &files
        && !control.push(SendAncillaryMessage::ScmRights(files))
    {
        return Err(io::Error::other("a descriptor does not fit into a message"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(&text)], &mut control, flags))?;
    Ok(())
}

/// Receives one message, with a descriptor if one came along; `Ok(None)` if the other end is gone.
/// Waits for it unless `flags` say otherwise.
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut into = [IoSliceMut::new(&mut text)];
        rustix::net::recvmsg(socket.as_fd(), &mut into, &mut control, flags | RecvFlags::CMSG_CLOEXEC)
    });
    let received = match received {
        Ok(received) => received,
        Err(Errno::CONNRESET) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let mut file = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            // Of several, all but the last are closed.
            for one in files {
                file = Some(one);
            }
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::other("a message is too long"));
    }
    let message = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
    Ok(Some((message, file)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let kind = SocketType::SEQPACKET;
        rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn a_message_arrives_with_its_file_and_an_end_is_told() {
        let (here, there) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"dump").unwrap();
        send(here.as_fd(), &Refusal::Ended(7), Some(file.as_fd())).unwrap();
        let (refusal, sent) = receive::<Refusal>(there.as_fd(), RecvFlags::empty()).unwrap().unwrap();
        assert_eq!(refusal, Refusal::Ended(7));
        let mut sent = File::from(sent.unwrap());
        sent.rewind().unwrap();
        let mut text = String::new();
        sent.read_to_string(&mut text).unwrap();
        assert_eq!(text, "dump");
        drop(here);
        assert!(receive::<Refusal>(there.as_fd(), RecvFlags::empty()).unwrap().is_none());
    }

    #[test]
    fn garbage_and_overlong_messages_are_errors() {
        let (here, there) = pair();
        rustix::net::send(&here, b"{", SendFlags::empty()).unwrap();
        receive::<Refusal>(there.as_fd(), RecvFlags::empty()).unwrap_err();
        let long = Refusal::Failed("x".repeat(LONGEST));
        send(here.as_fd(), &long, None).unwrap_err();
        rustix::net::send(&here, &vec![b' '; LONGEST + 1], SendFlags::empty()).unwrap();
        receive::<Refusal>(there.as_fd(), RecvFlags::empty()).unwrap_err();
    }
}
