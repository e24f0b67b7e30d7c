//! Tests through the front door: a real server on port 0, a fresh database, real HTTP and WebSocket clients.
//! `support` has the server and the clients; every other file is one matter.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod alarm_socket;
mod arrival;
mod bad_frames;
mod bad_goods;
mod bad_input;
mod bad_rooms;
mod bids;
mod big_room;
mod clock;
mod copy;
mod crash;
mod database;
mod dead_readers;
mod evening;
mod events;
mod goods;
mod idempotency;
mod identity;
mod inbox;
mod linear;
mod linear_checker;
mod lists;
mod media;
mod presence;
mod room_crash;
mod room_limits;
mod rooms;
mod sessions_of_users;
mod settings;
mod slow_client;
mod statements;
mod storm;
mod support;
mod trade_room;
mod trades;
mod users_goods;
