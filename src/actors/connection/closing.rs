//! How a connection closes. The states are a plain table, tested without a socket or a clock.

use std::{io, time::Duration};

use super::reader::CLOSE;

/// How long the client may take to answer a close frame.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the client may take to end the connection, counted like `ANSWER_TIMEOUT` from the last byte written.
/// `docs/protocol.md` promises that a connection ends within 2 s of its close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Bytes move in both directions.
    Open,
    /// The close frame is the last frame. What the client sends is dropped until it answers with its own.
    Closing,
    /// The last byte is written, and this side of the connection is about to be closed.
    ShuttingDown,
    /// This side is closed. What the client sends is dropped until it closes its side: a socket that is dropped with
    /// unread input resets the connection, and the client might not see the last bytes.
    Lingering,
    /// The socket can be dropped.
    Done,
}

/// Something that has happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Bytes were taken from the source or from the client.
    Moved,
    /// The source has given a close frame, which the client is to answer.
    CloseFrame,
    /// The source has given its last bytes.
    LastBytes,
    /// The client has answered the close frame.
    Answer,
    /// The client has closed its side.
    End,
    /// This side is closed.
    ShutDown,
    /// The client has taken longer than `State::timeout`.
    TimedOut,
    /// Reading or writing has failed: the connection is gone.
    Failed,
}

impl Event {
    /// What one read means to a connection that no longer listens to its client.
    pub(super) fn of_read(read: io::Result<&[u8]>) -> Self {
        match read {
            Ok([]) => Self::End,
            Ok([CLOSE, ..]) => Self::Answer,
            Ok(_) => Self::Moved,
            Err(_) => Self::Failed,
        }
    }
}

impl State {
    /// The state after an event.
    pub(super) fn after(self, event: Event) -> Self {
        match (self, event) {
            (_, Event::Failed) => Self::Done,
            (Self::Open, Event::CloseFrame) => Self::Closing,
            (Self::Open, Event::LastBytes) => Self::ShuttingDown,
            (Self::Closing, Event::Answer | Event::End | Event::TimedOut) => Self::ShuttingDown,
            (Self::ShuttingDown, Event::ShutDown) => Self::Lingering,
            (Self::Lingering, Event::End | Event::TimedOut) => Self::Done,
            (state, _) => state,
        }
    }

    /// When this state times out, counted from the last byte written.
    pub(super) fn timeout(self) -> Duration {
        if self == Self::Closing { ANSWER_TIMEOUT } else { CLOSE_TIMEOUT }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event::*, State::*, *};

    #[test]
    fn each_state_is_left_by_these_events_only() {
        let table = [
            (Open, CloseFrame, Closing),
            (Open, LastBytes, ShuttingDown),
            (Closing, Answer, ShuttingDown),
            (Closing, End, ShuttingDown),
            (Closing, TimedOut, ShuttingDown),
            (ShuttingDown, ShutDown, Lingering),
            (Lingering, End, Done),
            (Lingering, TimedOut, Done),
        ];
        for state in [Open, Closing, ShuttingDown, Lingering, Done] {
            assert_eq!(state.after(Failed), Done, "{state:?}");
            for event in [Moved, CloseFrame, LastBytes, Answer, End, ShutDown, TimedOut] {
                let entry = table.iter().find(|(from, by, _)| (*from, *by) == (state, event));
                assert_eq!(state.after(event), entry.map_or(state, |(_, _, to)| *to), "{event:?} when {state:?}");
            }
        }
    }

    #[test]
    fn what_a_client_sends_after_the_last_frame() {
        let frame = [CLOSE, 0x80, 0, 0, 0, 0];
        assert_eq!(Event::of_read(Ok(&frame)), Answer);
        assert_eq!(Event::of_read(Ok(b"\x81\x80garbage")), Moved);
        assert_eq!(Event::of_read(Ok(b"")), End);
        assert_eq!(Event::of_read(Err(io::ErrorKind::ConnectionReset.into())), Failed);
    }

    #[test]
    fn all_timeouts_are_within_the_contracts_two_seconds() {
        assert!(Closing.timeout() < Lingering.timeout() && Lingering.timeout() < Duration::from_secs(2));
    }
}
