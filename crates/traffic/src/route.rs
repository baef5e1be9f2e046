//! Which route a request takes.

use http::{HeaderMap, Method};

use crate::table::{Route, VirtualHost};

/// What a route can look at.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http`, or `https` where the client's TLS was ended here.
    pub scheme: &'a str,
    /// The Host as the client wrote it, with its port if it has one.
    pub authority: &'a str,
    /// Path and query.
    pub path_and_query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// The routes of a virtual host, ready to use.
#[derive(Clone, Debug)]
pub struct Routes;

/// One of them.
#[derive(Clone, Debug)]
pub struct PreparedRoute {
    /// As compiled.
    pub route: Route,
}

/// A route, and which of its matches matched: a rewrite of the prefix needs it.
#[derive(Clone, Copy, Debug)]
pub struct Picked<'a> {
    /// The route.
    pub route: &'a PreparedRoute,
    /// The index in [`Route::matches`]; absent when there are none.
    pub matched: Option<usize>,
}

impl Routes {
    /// Prepares the routes of a host for a workload with `labels`.
    ///
    /// # Errors
    /// When a regular expression cannot be used.
    pub fn new(_host: VirtualHost, _labels: &[(String, String)]) -> Result<Routes, String> {
        Ok(Routes)
    }

    /// The first route that matches; `None` is Envoy's 404.
    pub fn pick(&self, _head: &Head<'_>) -> Option<Picked<'_>> {
        None
    }
}
