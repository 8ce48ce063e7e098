//! Who may command. Whoever reaches an address may query. Orders that stop kills, or kill, are for
//! the sidecar's own user, for root, and for holders of the token.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Problem;
use super::serve::Peer;
use super::token::{Claim, Token};

/// How a listener authorizes commands.
#[derive(Clone, Debug)]
pub enum Door {
    /// A unix socket: the kernel identifies the peer.
    Socket,
    /// A TCP address: by the token.
    Address(Arc<Token>),
}

/// Who commands, as far as it is known. An authorized request carries it as an extension.
#[derive(Clone, Debug)]
pub struct By(pub String);

impl Door {
    fn who(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<By, String> {
        match (self, peer) {
            (Self::Socket, Some(Peer::User(Some(user)))) => {
                let own = rustix::process::geteuid().as_raw();
                if *user == 0 || *user == own {
                    Ok(By(format!("uid {user}")))
                } else {
                    Err(format!(
                        "uid {user} may not give orders here: only the sidecar's own user (uid {own}) and root may"
                    ))
                }
            }
            (Self::Address(token), Some(Peer::Address(address))) => match token.weigh(bearer(headers)) {
                Claim::Right => Ok(By(format!("token from {}", address.ip()))),
                Claim::Wrong => Err(
                    "this needs the token of http.token_file: send it as \"Authorization: Bearer TOKEN\" \
                     (--token-file FILE), or use the unix socket of http.socket"
                        .to_owned(),
                ),
                Claim::NotConfigured => Err(
                    "commands are taken over the unix socket only (--socket PATH, http.socket in the config). To have them \
                     taken here too, set http.token_file and reload"
                        .to_owned(),
                ),
                Claim::Unusable(why) => Err(format!("no token is in force: {why}")),
            },
            _ => Err("it is unknown who is at the other end of this connection".to_owned()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let one = all.next()?.as_bytes();
    if all.next().is_some() {
        return None;
    }
    let (scheme, token) = one.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Refuses the unauthorized before the order is read.
pub async fn check(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    match door.who(request.extensions().get(), request.headers()) {
        Ok(by) => {
            request.extensions_mut().insert(by);
            next.run(request).await
        }
        Err(why) => (StatusCode::FORBIDDEN, Json(Problem { error: why })).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_for_its_own_user_and_root() {
        let own = rustix::process::geteuid().as_raw();
        let who = |user| Door::Socket.who(Some(&Peer::User(user)), &HeaderMap::new());
        assert_eq!(who(Some(own)).unwrap().0, format!("uid {own}"));
        assert!(who(Some(0)).is_ok());
        assert!(who(Some(own + 1)).unwrap_err().contains("only the sidecar's own user"));
        assert!(who(None).is_err());
        let address = Peer::Address("127.0.0.1:1".parse().unwrap());
        assert!(Door::Socket.who(Some(&address), &HeaderMap::new()).is_err());
        assert!(Door::Socket.who(None, &HeaderMap::new()).is_err());
    }

    #[test]
    fn one_bearer_token_is_taken_and_no_other_form() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(with(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(with(&["bearer  abc "]), Some(b"abc".to_vec()));
        for bad in [&["Basic abc"][..], &["Bearer"], &[], &["Bearer abc", "Bearer abd"], &["abc"]] {
            assert_eq!(with(bad), None, "{bad:?}");
        }
    }
}
