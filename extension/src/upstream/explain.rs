//! What an error of the HTTP library means for the request.

use std::error::Error as _;

use rustls::AlertDescription;

use super::wire::Stats;
use super::{FailedKind, Hop, Why};
use crate::reason::{Reason, Refusal};

/// Kind and words for a request that failed on a connection.
pub(super) fn explain(hop: &Hop, error: &hyper::Error, stats: &Stats) -> Why {
    let host = &hop.cluster.host;
    match stats.alert() {
        // In TLS 1.3 a server refuses our certificate after the handshake looks done to us.
        Some(alert) if ends_handshake(alert, stats.received()) => {
            let detail = format!("{host} refused our certificate: TLS alert {alert:?}");
            return (FailedKind::Tls, Refusal::new(Reason::TlsFailed, detail));
        }
        // At another time it may have processed the request.
        Some(alert) => {
            let detail = format!("{host} ended the connection: TLS alert {alert:?}");
            return (FailedKind::Reset { sent: true }, Refusal::new(Reason::TlsFailed, detail));
        }
        None => {}
    }
    let kind = kind(error, stats);
    let detail = match kind {
        FailedKind::RefusedStream => format!("{host} did not take the request: {error}{}", cause(error)),
        _ => format!("{host} gave no whole HTTP answer: {error}{}", cause(error)),
    };
    (kind, Refusal::new(Reason::UpstreamProtocolError, detail))
}

/// True for the alerts about certificates and keys (RFC 8446 6.2), as long as no content has come: then the handshake
/// has never ended for the server, and it has processed nothing.
fn ends_handshake(alert: AlertDescription, received: u64) -> bool {
    use AlertDescription as Alert;
    received == 0
        && matches!(
            alert,
            Alert::HandshakeFailure
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
                | Alert::CertificateRequired
        )
}

fn cause(error: &hyper::Error) -> String {
    error.source().map(|cause| format!(" ({cause})")).unwrap_or_default()
}

fn kind(error: &hyper::Error, stats: &Stats) -> FailedKind {
    if let Some(error) = http2_error(error) {
        return http2_kind(error, stats);
    }
    match error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        true => FailedKind::Protocol,
        false => FailedKind::Reset { sent: true },
    }
}

fn http2_kind(error: &h2::Error, stats: &Stats) -> FailedKind {
    // RFC 9113 8.7: "The REFUSED_STREAM error code can be included in a RST_STREAM frame to indicate that the stream is
    // being closed prior to any processing having occurred."
    if error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return FailedKind::RefusedStream;
    }
    // RFC 9113 6.8: what comes after the GOAWAY's last stream was not and will not be acted on. The library gives the
    // same error to streams before it, which may have been acted on, when the service ends the connection: so only as
    // long as it has not.
    if error.is_go_away() && error.is_remote() && !stats.ended() {
        return FailedKind::RefusedStream;
    }
    match error.is_library() {
        true => FailedKind::Protocol,
        false => FailedKind::Reset { sent: true },
    }
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<h2::Error>() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_handshake_that_never_ended_proves_that_nothing_was_processed() {
        for (alert, received, expected) in [
            (AlertDescription::UnknownCA, 0, true),
            (AlertDescription::CertificateRequired, 0, true),
            (AlertDescription::UnknownCA, 1, false),
            (AlertDescription::InternalError, 0, false),
            (AlertDescription::BadRecordMac, 0, false),
        ] {
            assert_eq!(ends_handshake(alert, received), expected, "{alert:?} {received}");
        }
    }
}
