//! Notifies the service manager of this process, over the socket that it named in the environment,
//! by the protocol of sd_notify(3). systemd is one such manager, container runtimes are others.
//!
//! Nothing here waits. The socket does not block: if the manager has no room for a message now, it
//! is not sent, and the caller is told so. Without a socket in the environment nothing is sent.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The variable with the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Variables that a manager sets for the one process that it started. A program that starts others
/// itself removes them from their environment: they are not the service, and the manager would take
/// their notifications for the service's.
pub const VARIABLES: [&str; 3] = [SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The longest status in bytes. systemd drops a message of more than 4 KiB; `systemctl status`
/// shows one line.
const LONGEST_STATUS: usize = 1024;

/// The pause between two attempts to send a message that must arrive.
const AGAIN: Duration = Duration::from_millis(5);

/// A notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// The start is complete.
    Ready,
    /// The config is being reloaded; `Ready` ends this state.
    Reloading,
    /// The process has begun to end.
    Stopping,
    /// The sign of life for the manager's watchdog.
    Alive,
    /// A sentence for people. It may contain foreign text.
    Status(&'a str),
}

/// The manager, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager(Option<Way>);

#[derive(Debug)]
struct Way {
    socket: UnixDatagram,
    /// Not connected: a manager that restarts has another socket at the same path.
    address: SocketAddr,
}

/// Why the manager cannot be notified.
#[derive(Debug, thiserror::Error)]
#[error("{SOCKET} is {named:?}, and this cannot be used: {why}. The service manager is told nothing")]
pub struct Unusable {
    named: OsString,
    why: String,
}

impl ServiceManager {
    /// The manager that the environment names.
    ///
    /// # Errors
    /// If the environment names no valid address of a unix socket. That is no reason for a process
    /// not to do its work.
    pub fn of_environment() -> Result<Self, Unusable> {
        match std::env::var_os(SOCKET) {
            Some(named) if !named.is_empty() => Self::at(&named),
            _ => Ok(Self::default()),
        }
    }

    /// The manager that listens at this path, or at this abstract name after an `@`.
    ///
    /// # Errors
    /// If `named` is neither.
    pub fn at(named: &OsStr) -> Result<Self, Unusable> {
        let unusable = |why: String| Unusable { named: named.to_owned(), why };
        let address = match named.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(Path::new(named)),
            _ => return Err(unusable("it is neither an absolute path nor an @ and a name".to_owned())),
        };
        let made = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(Way { socket, address })
        });
        made.map(|way| Self(Some(way))).map_err(|error| unusable(error.to_string()))
    }

    /// Whether there is a manager to notify.
    pub const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// The time without [`News::Alive`] after which the manager restarts this process. `None`: it
    /// does not require that, or requires it of another process.
    pub fn patience(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|_| self.is_there())
    }

    /// Sends all of this in one message. False if there is no manager, or if it has no room for it
    /// now.
    pub fn tell(&self, news: &[News<'_>]) -> bool {
        let Some(way) = &self.0 else { return false };
        way.socket.send_to_addr(message(news).as_bytes(), &way.address).is_ok()
    }

    /// The same, retried while the manager has no room, for at most `within`. For notifications
    /// that the manager waits for, from a thread that nothing waits for.
    pub fn tell_within(&self, within: Duration, news: &[News<'_>]) -> bool {
        let until = Instant::now() + within;
        while self.is_there() {
            if self.tell(news) {
                return true;
            }
            if Instant::now() >= until {
                break;
            }
            std::thread::sleep(AGAIN);
        }
        false
    }
}

fn message(news: &[News<'_>]) -> String {
    let mut message = String::new();
    for one in news {
        match one {
            News::Ready => line(&mut message, &NotifyState::Ready),
            News::Stopping => line(&mut message, &NotifyState::Stopping),
            News::Alive => line(&mut message, &NotifyState::Watchdog),
            News::Status(text) => line(&mut message, &NotifyState::Status(&one_line(text))),
            News::Reloading => {
                line(&mut message, &NotifyState::Reloading);
                // Since 253 systemd treats a reload that it requested as failed if the message
                // contains no time.
                if let Ok(now) = NotifyState::monotonic_usec_now() {
                    line(&mut message, &now);
                }
            }
        }
    }
    message
}

fn line(message: &mut String, state: &NotifyState<'_>) {
    message.push_str(&state.to_string());
    message.push('\n');
}

/// A line of a message is an order to the manager: `MAINPID=` names the process to signal. Names
/// and last words in a status come from the target, so they must not end the line.
fn one_line(text: &str) -> String {
    let mut short = text.get(..text.floor_char_boundary(LONGEST_STATUS)).unwrap_or_default().to_owned();
    if short.len() < text.len() {
        short.push('…');
    }
    short.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> (UnixDatagram, ServiceManager) {
        let name = format!("shard-telemetry-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let there = UnixDatagram::bind_addr(&address).unwrap();
        (there, ServiceManager::at(OsStr::new(&format!("@{name}"))).unwrap())
    }

    fn heard(there: &UnixDatagram) -> String {
        let mut bytes = [0; 8192];
        let length = there.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn news_is_one_message_in_the_words_of_the_manager() {
        let (there, manager) = manager("words");
        assert!(manager.tell(&[News::Ready, News::Status("healthy: all is well"), News::Alive]));
        assert_eq!(heard(&there), "READY=1\nSTATUS=healthy: all is well\nWATCHDOG=1\n");
        assert!(manager.tell(&[News::Stopping]));
        assert_eq!(heard(&there), "STOPPING=1\n");
        assert!(manager.tell(&[News::Reloading]));
        let told = heard(&there);
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim();
        assert!(time.parse::<u64>().unwrap() > 0, "{told}");
    }

    #[test]
    fn no_status_gives_the_manager_an_order() {
        let (there, manager) = manager("orders");
        assert!(manager.tell(&[News::Status("gone\nMAINPID=1\r\nFDSTORE=1\0\u{85}x")]));
        assert_eq!(heard(&there), "STATUS=gone MAINPID=1  FDSTORE=1  x\n");
        assert!(manager.tell(&[News::Status(&"é".repeat(3000))]));
        let told = heard(&there);
        assert!(told.len() < 1100 && told.ends_with("é…\n"), "{told}");
    }

    #[test]
    fn a_manager_that_does_not_keep_up_holds_nobody_up() {
        let (there, manager) = manager("full");
        let told = (0..100_000).take_while(|_| manager.tell(&[News::Alive])).count();
        assert!(told < 100_000, "its queue never fills");
        assert!(!manager.tell_within(Duration::from_millis(20), &[News::Ready]));
        heard(&there);
        assert!(manager.tell_within(Duration::from_secs(10), &[News::Ready]), "there is room again");
    }

    #[test]
    fn without_a_manager_nobody_is_told() {
        let nobody = ServiceManager::default();
        assert!(!nobody.is_there() && !nobody.tell(&[News::Ready]) && nobody.patience().is_none());
        assert!(!nobody.tell_within(Duration::from_secs(600), &[News::Ready]));
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_name() {
        let long = format!("/{}", "a".repeat(200));
        for named in ["run/notify", "vsock:2:1", &long] {
            let error = ServiceManager::at(OsStr::new(named)).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("told nothing"), "{error}");
        }
    }
}
