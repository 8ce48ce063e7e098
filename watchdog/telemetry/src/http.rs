//! An HTTP server for machines and a few people: which hosts it answers for ([`host`]), and how
//! much each connection may cost ([`serve`]).

pub mod host;
mod pace;
mod seats;
pub mod serve;
