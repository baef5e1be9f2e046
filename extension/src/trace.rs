//! Traces through the proxy: W3C Trace Context, B3 (one header and many) and X-Ray.
//!
//! Each format that the application sends goes on with the same trace and a span id of this hop, which is in the access
//! log too. Where it sends none, the trace is that of the invocation. No trace is made where there is none.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::random::Draws;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const X_RAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Whether a header says that the application traces by itself.
fn is_of_a_trace(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "traceparent"
            | "tracestate"
            | "b3"
            | "x-b3-traceid"
            | "x-b3-spanid"
            | "x-b3-sampled"
            | "x-b3-flags"
            | "x-amzn-trace-id"
    )
}

/// Where a request is in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// 32 hexadecimal digits; 16 for a short one of B3.
    pub(crate) trace: String,
    /// 16 hexadecimal digits: this hop.
    pub(crate) span: String,
}

/// Carries the trace on; `invocation` is its `X-Amzn-Trace-Id`, for requests without one of their own.
pub(crate) fn carry(headers: &mut HeaderMap, invocation: Option<&str>, draws: &mut Draws) -> Option<Span> {
    if !headers.keys().any(is_of_a_trace) {
        return begin(headers, invocation?, draws.hex());
    }
    let span = draws.hex();
    // All of them, also when the first has said which trace it is.
    let found = [w3c(headers, &span), b3_single(headers, &span), b3_multi(headers, &span), x_ray(headers, &span)];
    let trace = found.into_iter().flatten().next()?;
    Some(Span { trace, span })
}

/// The invocation's trace, for a request that has none.
fn begin(headers: &mut HeaderMap, invocation: &str, span: String) -> Option<Span> {
    let Parsed { root, sampled, .. } = parse(invocation)?;
    let trace = w3c_id(root)?;
    // Lambda leaves it open with "Sampled=?" or without the field; open is not sampled.
    let sampled = sampled == Some("1");
    put(headers, TRACEPARENT, &format!("00-{trace}-{span}-0{}", u8::from(sampled)));
    put(headers, X_RAY, &format!("Root={root};Parent={span};Sampled={}", u8::from(sampled)));
    Some(Span { trace, span })
}

/// `traceparent: 00-TRACE-PARENT-FLAGS`.
fn w3c(headers: &mut HeaderMap, span: &str) -> Option<String> {
    let present = headers.contains_key(TRACEPARENT);
    let parsed = only(headers, &TRACEPARENT).and_then(|value| {
        let mut parts = value.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Version ff is forbidden, and 00 has four parts; later versions may have more (3.2.2 and 4.3).
        let known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let flags = u8::from_str_radix(flags, 16).ok().filter(|_| is_hex(flags, 2))?;
        (known && is_id(trace, 32) && is_id(parent, 16)).then(|| (trace.to_owned(), flags & 1))
    });
    let Some((trace, sampled)) = parsed else {
        // 3.3.1: without a traceparent that can be read, tracestate "MUST NOT" be used. What is broken is not passed on.
        if present {
            headers.remove(TRACEPARENT);
        }
        headers.remove(TRACESTATE);
        return None;
    };
    // 4.3: a later version is answered with the one that is known here.
    put(headers, TRACEPARENT, &format!("00-{trace}-{span}-0{sampled}"));
    Some(trace)
}

/// `b3: TRACE-SPAN[-SAMPLED[-PARENT]]`. A lone decision about sampling is passed on as it is.
fn b3_single(headers: &mut HeaderMap, span: &str) -> Option<String> {
    let value = only(headers, &B3)?;
    let mut parts = value.split('-');
    let (trace, parent) = (parts.next()?.to_ascii_lowercase(), parts.next()?.to_ascii_lowercase());
    let sampled = parts.next().filter(|sampled| ["0", "1", "d"].contains(sampled));
    if !is_b3_trace(&trace) || !is_id(&parent, 16) {
        return None;
    }
    // The parent stands behind the decision, so it can only be said with one.
    let value = match sampled {
        Some(sampled) => format!("{trace}-{span}-{sampled}-{parent}"),
        None => format!("{trace}-{span}"),
    };
    put(headers, B3, &value);
    Some(trace)
}

/// `x-b3-traceid`, `x-b3-spanid` and `x-b3-parentspanid`; the decision about sampling stays as it is.
fn b3_multi(headers: &mut HeaderMap, span: &str) -> Option<String> {
    let trace = only(headers, &B3_TRACE)?.to_ascii_lowercase();
    let parent = only(headers, &B3_SPAN)?.to_ascii_lowercase();
    if !is_b3_trace(&trace) || !is_id(&parent, 16) {
        return None;
    }
    put(headers, B3_PARENT, &parent);
    put(headers, B3_SPAN, span);
    Some(trace)
}

/// `X-Amzn-Trace-Id: Root=1-TIME-ID;Parent=SPAN;Sampled=1;…`: other fields stay as they are.
fn x_ray(headers: &mut HeaderMap, span: &str) -> Option<String> {
    let value = only(headers, &X_RAY)?;
    let Parsed { root, .. } = parse(&value)?;
    let trace = w3c_id(root)?;
    let mut fields: Vec<String> = vec![format!("Root={root}"), format!("Parent={span}")];
    let others = value.split(';').map(str::trim).filter(|field| !field.is_empty());
    fields.extend(others.filter(|field| !is_named(field, "Root") && !is_named(field, "Parent")).map(str::to_owned));
    put(headers, X_RAY, &fields.join(";"));
    Some(trace)
}

struct Parsed<'a> {
    root: &'a str,
    sampled: Option<&'a str>,
}

fn parse(value: &str) -> Option<Parsed<'_>> {
    let field = |name| {
        let mut fields = value.split(';').map(str::trim);
        fields.find(|field| is_named(field, name)).and_then(|field| field.split_once('=')).map(|(_, value)| value)
    };
    Some(Parsed { root: field("Root")?, sampled: field("Sampled") })
}

fn is_named(field: &str, name: &str) -> bool {
    field.split_once('=').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
}

/// The W3C id of X-Ray's `1-5759e988-bd862e3fe1be46a994272793`: the same without version and dashes.
fn w3c_id(root: &str) -> Option<String> {
    let (time, id) = root.strip_prefix("1-")?.split_once('-')?;
    let trace = format!("{time}{id}").to_ascii_lowercase();
    (time.len() == 8 && is_id(&trace, 32)).then_some(trace)
}

/// The value of a header that is there once: of two nobody can say which one counts.
fn only(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim().to_owned();
    values.next().is_none().then_some(value)
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Lower case, as W3C Trace Context 3.2.2 demands.
fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_id(text: &str, length: usize) -> bool {
    is_hex(text, length) && text.bytes().any(|byte| byte != b'0')
}

fn is_b3_trace(text: &str) -> bool {
    is_id(text, 32) || is_id(text, 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";
    const ROOT: &str = "1-5759e988-bd862e3fe1be46a994272793";
    const ROOT_ID: &str = "5759e988bd862e3fe1be46a994272793";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// The headers after it, with this hop's span as `SPAN`, sorted; and the trace.
    fn carried(pairs: &[(&'static str, &str)], invocation: Option<&str>) -> (Vec<String>, Option<String>) {
        let mut headers = headers(pairs);
        let span = carry(&mut headers, invocation, &mut Draws::new());
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| {
                let line = format!("{name}: {}", value.to_str().unwrap());
                span.as_ref().map_or(line.clone(), |span| line.replace(&span.span, "SPAN"))
            })
            .collect();
        lines.sort();
        (lines, span.map(|span| span.trace))
    }

    /// What is sent, what goes on, and the trace.
    type Case<'a> = (&'a [(&'static str, &'a str)], &'a [&'a str], &'a str);

    #[test]
    fn each_format_goes_on_with_a_span_of_this_hop() {
        let w3c = format!("00-{TRACE}-{PARENT}-01");
        let short = &TRACE[16..];
        let cases: &[Case<'_>] = &[
            (
                &[("traceparent", &w3c), ("tracestate", "a=b")],
                &[&format!("traceparent: 00-{TRACE}-SPAN-01"), "tracestate: a=b"],
                TRACE,
            ),
            // A later version, with more fields and flags.
            (
                &[("traceparent", &format!("cc-{TRACE}-{PARENT}-03-what"))],
                &[&format!("traceparent: 00-{TRACE}-SPAN-01")],
                TRACE,
            ),
            (&[("b3", &format!("{TRACE}-{PARENT}-1"))], &[&format!("b3: {TRACE}-SPAN-1-{PARENT}")], TRACE),
            (&[("b3", &format!("{TRACE}-{PARENT}-d-{PARENT}"))], &[&format!("b3: {TRACE}-SPAN-d-{PARENT}")], TRACE),
            (&[("b3", &format!("{short}-{PARENT}"))], &[&format!("b3: {short}-SPAN")], short),
            (
                &[("x-b3-traceid", TRACE), ("x-b3-spanid", PARENT), ("x-b3-sampled", "1")],
                &[
                    &format!("x-b3-parentspanid: {PARENT}"),
                    "x-b3-sampled: 1",
                    "x-b3-spanid: SPAN",
                    &format!("x-b3-traceid: {TRACE}"),
                ],
                TRACE,
            ),
            (
                &[("x-amzn-trace-id", &format!("Self=1-2;Root={ROOT};Parent={PARENT};Sampled=1"))],
                &[&format!("x-amzn-trace-id: Root={ROOT};Parent=SPAN;Self=1-2;Sampled=1")],
                ROOT_ID,
            ),
            (
                &[("traceparent", &w3c), ("b3", &format!("{TRACE}-{PARENT}-1"))],
                &[&format!("b3: {TRACE}-SPAN-1-{PARENT}"), &format!("traceparent: 00-{TRACE}-SPAN-01")],
                TRACE,
            ),
        ];
        for (sent, expected, trace) in cases {
            let (found, of) = carried(sent, Some("Root=1-00000001-000000000000000000000001"));
            assert_eq!(
                (found, of.as_deref()),
                (expected.iter().map(|line| (*line).to_owned()).collect(), Some(*trace))
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_trace() {
        let broken = [
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{PARENT}-+1"),
        ];
        for value in &broken {
            let (found, trace) = carried(&[("traceparent", value), ("tracestate", "a=b")], None);
            assert_eq!((found, trace), (vec![], None), "{value}");
        }
        let twice = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(carried(&[("traceparent", &twice), ("traceparent", &twice)], None), (vec![], None));
        for (name, value) in [("b3", "0"), ("b3", "x-y-1"), ("x-b3-sampled", "0"), ("x-amzn-trace-id", "Root=2-a-b")] {
            assert_eq!(carried(&[(name, value)], None), (vec![format!("{name}: {value}")], None));
        }
    }

    #[test]
    fn without_a_trace_of_its_own_a_request_belongs_to_the_invocation() {
        for (invocation, sampled) in [
            (format!("Root={ROOT};Parent={PARENT};Sampled=1"), 1),
            (format!("Root={ROOT};Parent={PARENT};Sampled=0;Lineage=1:a:0"), 0),
            (format!("Root={ROOT}"), 0),
        ] {
            let expected = vec![
                format!("traceparent: 00-{ROOT_ID}-SPAN-0{sampled}"),
                format!("x-amzn-trace-id: Root={ROOT};Parent=SPAN;Sampled={sampled}"),
            ];
            assert_eq!(carried(&[], Some(&invocation)), (expected, Some(ROOT_ID.to_owned())));
        }
        for invocation in [None, Some(""), Some("Root="), Some("Root=1-zzzzzzzz-bd862e3fe1be46a994272793"), Some("x")] {
            assert_eq!(carried(&[], invocation), (vec![], None), "{invocation:?}");
        }
    }

    #[test]
    fn two_hops_have_two_spans() {
        let sent = format!("00-{TRACE}-{PARENT}-01");
        let span = || carry(&mut headers(&[("traceparent", &sent)]), None, &mut Draws::new()).unwrap().span;
        assert_ne!(span(), span());
    }
}
