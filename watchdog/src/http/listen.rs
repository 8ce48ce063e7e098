//! Binds the addresses that the config names. Each is bound independently: a shard must not be left
//! unguarded because one of them is unavailable.

pub mod socket;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use crate::board::listening::Which;
use crate::config::HttpConfig;
use crate::own_folder::target_user::TargetUser;

use socket::SocketFile;

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program listens there.
    #[error(
        "{which} = \"{address}\" is in use: another sidecar or another program listens there. Stop it, or set {which} to a \
         free address (\"\" switches it off)"
    )]
    InUse {
        /// The config key.
        which: Which,
        /// The configured address.
        address: String,
    },
    /// Something that is not a socket is in the way.
    #[error("http.socket: there is something at {} that is not a socket, and it is left alone. Remove it, or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path cannot name a socket.
    #[error("http.socket = \"{}\" cannot be a socket: {why}", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// The system refuses, or the folder cannot be trusted.
    #[error("{which} = \"{address}\" cannot be listened on: {error}. {hint}")]
    Refused {
        /// The config key.
        which: Which,
        /// The configured address.
        address: String,
        /// The error of the operating system.
        error: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
}

/// A bound listener.
#[derive(Debug)]
pub enum Taken {
    /// An address.
    Address(TcpListener),
    /// A unix socket.
    Socket(SocketFile),
}

/// Binds `which` of them; `None` if the config does not name it.
///
/// # Errors
/// If it cannot be bound now.
pub fn take(
    which: Which,
    config: &HttpConfig,
    target: &Arc<TargetUser>,
) -> Option<Result<Taken, ListenError>> {
    match which {
        Which::Listen => config.listen.map(|address| tcp(which, address)),
        Which::Public => config.public.map(|address| tcp(which, address)),
        Which::Socket => {
            let path = config.socket.as_deref()?;
            Some(SocketFile::bind(path, target).map(Taken::Socket))
        }
    }
}

fn tcp(which: Which, address: SocketAddr) -> Result<Taken, ListenError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map(Taken::Address).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                return ListenError::InUse { which, address: address.to_string() };
            }
            io::ErrorKind::PermissionDenied => "This user may not: choose a port above 1023",
            io::ErrorKind::AddrNotAvailable => {
                "No interface of this machine has that address: choose one that it has"
            }
            _ => "Choose another address",
        };
        ListenError::Refused { which, address: address.to_string(), error, hint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_the_next_step_and_costs_no_other() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let config = HttpConfig {
            listen: Some(address),
            public: Some("127.0.0.1:0".parse().unwrap()),
            socket: None,
            hosts: Vec::new(),
            token_file: None,
        };
        let target = Arc::default();
        let error = take(Which::Listen, &config, &target).unwrap().unwrap_err().to_string();
        assert!(error.starts_with(&format!("http.listen = \"{address}\" is in use")), "{error}");
        assert!(error.contains("set http.listen to a free address"), "{error}");
        assert!(take(Which::Public, &config, &target).unwrap().is_ok());
        assert!(take(Which::Socket, &config, &target).is_none());
    }
}
