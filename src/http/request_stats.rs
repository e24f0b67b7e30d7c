//! Counts HTTP requests by method, route and status, and times them.
//!
//! A route is a pattern of `routes`, never a path, so that no client can make a new series. Requests that no route
//! takes, by their path or their method, count together.

use std::{
    array,
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_web::{
    HttpRequest,
    http::{Method, StatusCode},
};

use crate::metrics::{Histogram, Labels, ReadCounters, ReadTimes, Registry};

/// The methods that routes have. HEAD counts as GET.
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
/// The statuses that the service answers with. Any other counts as the last.
const STATUSES: [u16; 22] =
    [101, 200, 201, 202, 204, 206, 302, 304, 400, 401, 403, 404, 405, 409, 413, 415, 416, 422, 429, 500, 503, 599];
/// The label of requests that no route takes.
const NO_ROUTE: &str = "none";

/// Requests of one method to one route.
#[derive(Debug)]
struct RouteStats {
    by_status: [AtomicU64; STATUSES.len()],
    /// Until the head of the response is ready.
    times: Histogram,
}

impl Default for RouteStats {
    fn default() -> Self {
        Self { by_status: array::from_fn(|_| AtomicU64::new(0)), times: Histogram::of_request_times() }
    }
}

/// All requests since the start.
#[derive(Debug, Default)]
pub(crate) struct RequestStats {
    /// Filled as routes are first used; there are only as many as the app has.
    routes: RwLock<HashMap<Box<str>, Arc<[RouteStats; METHODS.len()]>>>,
    no_route: RouteStats,
}

impl RequestStats {
    /// Counts a request with its response.
    pub(super) fn count(&self, request: &HttpRequest, status: StatusCode, took: Duration) {
        let method = match *request.method() {
            Method::GET | Method::HEAD => Some(0),
            Method::POST => Some(1),
            Method::PUT => Some(2),
            Method::DELETE => Some(3),
            _ => None,
        };
        let route = request.match_pattern().filter(|_| status != StatusCode::METHOD_NOT_ALLOWED);
        let (Some(method), Some(route)) = (method, route) else { return self.no_route.count(status, took) };
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&*route).cloned();
        let methods = known.unwrap_or_else(|| {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                routes.entry(route.into()).or_insert_with(|| Arc::new(array::from_fn(|_| RouteStats::default()))),
            )
        });
        methods[method].count(status, took);
    }

    /// What has been counted, by method and route.
    fn each<T>(&self, read: impl Fn(&RouteStats) -> T) -> Vec<(Labels, T)> {
        let labels = |method: &str, route: &str| vec![("method", method.to_owned()), ("route", route.to_owned())];
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = vec![(labels("other", NO_ROUTE), read(&self.no_route))];
        for (route, methods) in routes.iter() {
            let used = METHODS.iter().zip(methods.iter()).filter(|(_, stats)| stats.times.count() > 0);
            all.extend(used.map(|(method, stats)| (labels(method, route), read(stats))));
        }
        all
    }

    /// Adds the figures to the metrics.
    pub(crate) fn register(self: &Arc<Self>, to: &mut Registry) {
        let stats = Arc::clone(self);
        let counts =
            ReadCounters::new(move || stats.each(RouteStats::statuses).into_iter().flat_map(by_status).collect());
        to.register("http_requests", "Requests by method, route and status", counts);
        let stats = Arc::clone(self);
        let times = ReadTimes::new(move || stats.each(|route| route.times.clone()));
        to.register("http_request_seconds", "Time until the head of the response is ready", times);
    }
}

impl RouteStats {
    fn count(&self, status: StatusCode, took: Duration) {
        let index = STATUSES.iter().position(|one| *one == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        self.by_status[index].fetch_add(1, Ordering::Relaxed);
        self.times.observe(took);
    }

    /// The statuses that have occurred, and how often.
    fn statuses(&self) -> Vec<(u16, u64)> {
        let counts = self.by_status.iter().map(|count| count.load(Ordering::Relaxed));
        STATUSES.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

/// Adds the status to the labels.
fn by_status((labels, statuses): (Labels, Vec<(u16, u64)>)) -> Vec<(Labels, u64)> {
    let with_status = |(status, count): (u16, u64)| {
        let mut labels = labels.clone();
        labels.push(("status", status.to_string()));
        (labels, count)
    };
    statuses.into_iter().map(with_status).collect()
}
