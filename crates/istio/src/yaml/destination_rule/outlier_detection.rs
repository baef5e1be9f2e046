use super::super::read::At;
use crate::OutlierDetection;

const NOT_YET: &[&str] = &["outlierDetectionHttpErrorCodes"];

pub(super) fn outlier_detection(at: &At<'_>) -> Option<OutlierDetection> {
    at.mapping(NOT_YET, |fields| {
        let split_local_origin = fields.boolean("splitExternalLocalOriginErrors");
        let local_origin = fields.field("consecutiveLocalOriginFailures");
        // Istio: "outlier detection consecutive local origin failures is specified, but split external local origin
        // errors is set to false".
        let failures = local_origin.as_ref().and_then(At::number);
        if let Some(at) = &local_origin
            && !split_local_origin
            && failures.is_some_and(|failures| failures > 0)
        {
            at.error("it counts only with `splitExternalLocalOriginErrors: true`; set that, or leave it out");
        }
        let older = fields.field("consecutiveErrors");
        // Istio does nothing with it any more.
        if let Some(at) = &older {
            at.error("Istio does not read `consecutiveErrors` any more; use `consecutive5xxErrors`");
        }
        Some(OutlierDetection {
            split_local_origin,
            consecutive_local_origin_failures: failures.filter(|failures| *failures > 0),
            consecutive_gateway_errors: fields.field("consecutiveGatewayErrors").and_then(|at| at.number()),
            consecutive_5xx_errors: fields.field("consecutive5xxErrors").and_then(|at| at.number()),
            interval: fields.whole_milliseconds("interval"),
            base_ejection_time: fields.whole_milliseconds("baseEjectionTime"),
            max_ejection_percent: fields
                .field("maxEjectionPercent")
                .and_then(|at| at.whole_percent())
                .filter(|p| *p > 0),
            min_health_percent: fields.field("minHealthPercent").and_then(|at| at.whole_percent()),
        })
    })
}
