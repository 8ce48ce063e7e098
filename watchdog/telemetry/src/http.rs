//! An HTTP server for machines and a few people: who is answered ([`host`]), and how much each may
//! cost ([`serve`]).

pub mod host;
mod pace;
mod seats;
pub mod serve;
