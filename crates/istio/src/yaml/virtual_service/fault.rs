use super::super::nearest::quoted;
use super::super::read::At;
use super::action::status;
use crate::{AbortStatus, FaultAbort, FaultDelay, HttpFault, Percent};

const DELAY_NOT_YET: &[&str] = &["exponentialDelay"];
const ABORT_NOT_YET: &[&str] = &["http2Error"];
/// The codes of gRPC, by number.
const GRPC: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) fn fault(at: &At<'_>) -> Option<HttpFault> {
    at.mapping(&[], |fields| {
        let delay = fields.field("delay").and_then(|at| delay(&at));
        let abort = fields.field("abort").and_then(|at| abort(&at));
        // Istio: "HTTP fault injection must have an abort and/or a delay".
        if !fields.has("delay") && !fields.has("abort") {
            fields.at.error("expected `delay`, `abort` or both");
        }
        Some(HttpFault { delay, abort })
    })
}

fn delay(at: &At<'_>) -> Option<FaultDelay> {
    at.mapping(DELAY_NOT_YET, |fields| {
        // Istio (`TranslateFault`): the older `percent` counts where there is no `percentage`.
        let older = fields.field("percent").and_then(|at| at.whole_percent());
        let newer = fields.field("percentage").and_then(|at| at.percentage(true));
        let fixed_delay = if fields.has("exponentialDelay") { None } else { fields.required("fixedDelay") };
        let fixed_delay = fixed_delay.and_then(|at| at.whole_milliseconds());
        let older = older.map(|percent| Percent::from_millionths(percent * 10_000));
        Some(FaultDelay { percentage: newer.or(older).unwrap_or_default(), fixed_delay: fixed_delay? })
    })
}

fn abort(at: &At<'_>) -> Option<FaultAbort> {
    at.mapping(ABORT_NOT_YET, |fields| {
        let percentage = fields.field("percentage").and_then(|at| at.percentage(true)).unwrap_or_default();
        let http = fields.field("httpStatus").map(|at| status(&at).map(AbortStatus::Http));
        let grpc = fields.field("grpcStatus").map(|at| grpc_status(&at));
        if http.is_some() && grpc.is_some() {
            fields.at.error("`httpStatus` and `grpcStatus` exclude each other; keep one");
        }
        let status = http.or(grpc);
        if status.is_none() && !fields.has("http2Error") {
            // Istio: "abort configured, but error type not set".
            fields.at.error("expected `httpStatus` or `grpcStatus`");
        }
        Some(FaultAbort { percentage, status: status.flatten()? })
    })
}

fn grpc_status(at: &At<'_>) -> Option<AbortStatus> {
    let name = at.string()?;
    let code = GRPC.iter().position(|known| *known == name).and_then(|code| u16::try_from(code).ok());
    if code.is_none() {
        at.error(format!("expected the name of a gRPC status such as `NOT_FOUND`, found {}", quoted(&name)));
    }
    code.map(AbortStatus::Grpc)
}
