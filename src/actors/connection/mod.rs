//! One connection after its upgrade: bytes and frames, no meaning.

pub(crate) mod fragments;
pub(crate) mod frame_limit;
pub(crate) mod liveness;
pub(crate) mod reader;
pub(crate) mod socket;
