//! One direction of one connection.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::frames::Frames;
use super::{LOOK, Mode, Shared, Towards};

/// Most bytes in transit in a slow network. Beyond it nothing more is read, as in a real one.
const UNDER_WAY: usize = 64 << 20;

/// Starts a thread that carries what `from` sends to `to`.
pub(super) fn start(
    from: TcpStream,
    to: TcpStream,
    towards: Towards,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let pump = move || {
        let mut pump = Pump {
            from,
            to,
            towards,
            frames: Frames::new(towards == Towards::Shard),
            under_way: VecDeque::new(),
            bytes: 0,
            spoiled: false,
        };
        pump.run(&shared);
        shared.connections.fetch_sub(1, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("proxy-pump".to_owned()).spawn(pump).map(drop)
}

struct Pump {
    from: TcpStream,
    to: TcpStream,
    towards: Towards,
    frames: Frames,
    /// What has been read, with the time at which it is due.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// Something was swallowed, so nothing after it may arrive.
    spoiled: bool,
}

/// Why a direction ended.
enum End {
    /// Its sender has nothing more to send.
    Finished,
    Broken,
}

impl Pump {
    fn run(&mut self, shared: &Shared) {
        let mut buffer = vec![0; 64 << 10];
        let end = loop {
            if shared.over() || shared.mode() == Mode::Cut {
                break End::Broken;
            }
            if let Err(end) = self.read(&mut buffer, shared.mode()).and_then(|()| self.deliver(false)) {
                break end;
            }
        };
        match end {
            // In a half-open connection even the end does not arrive.
            End::Finished if self.spoiled => {}
            End::Finished => {
                let _ = self.deliver(true);
                let _ = self.to.shutdown(Shutdown::Write);
            }
            End::Broken => {
                let _ = self.to.shutdown(Shutdown::Both);
                let _ = self.from.shutdown(Shutdown::Both);
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8], mode: Mode) -> Result<(), End> {
        if self.bytes > UNDER_WAY {
            std::thread::sleep(LOOK);
            return Ok(());
        }
        let read = match self.from.read(buffer) {
            Ok(0) => return Err(End::Finished),
            Ok(read) => read,
            Err(error) => {
                let again = matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                );
                return if again { Ok(()) } else { Err(End::Broken) };
            }
        };
        self.spoiled |= mode == Mode::Swallow;
        if self.spoiled {
            return Ok(());
        }
        let mut bytes = buffer[..read].to_vec();
        self.frames.pass(&mut bytes, mode == Mode::Corrupt(self.towards));
        let delay = match (mode, self.towards) {
            (Mode::Delay { to_shard, .. }, Towards::Shard) => to_shard,
            (Mode::Delay { to_coordinator, .. }, Towards::Coordinator) => to_coordinator,
            _ => Duration::ZERO,
        };
        self.bytes += bytes.len();
        self.under_way.push_back((Instant::now() + delay, bytes));
        Ok(())
    }

    /// Forwards what is due, or everything in transit.
    fn deliver(&mut self, everything: bool) -> Result<(), End> {
        while let Some((due, _)) = self.under_way.front() {
            if *due > Instant::now() && !everything {
                return Ok(());
            }
            let Some((_, bytes)) = self.under_way.pop_front() else { return Ok(()) };
            self.bytes -= bytes.len();
            self.to.write_all(&bytes).map_err(|_| End::Broken)?;
        }
        Ok(())
    }
}
