use super::super::check::header_name;
use super::super::locality::locality_lb;
use super::super::nearest::one_of;
use super::super::read::{At, Mapping};
use crate::{ConsistentHash, HashKey, HashTable, LoadBalancer, LoadBalancerPolicy, Warmup};

const NOT_YET: &[&str] = &["zoneAwareLbSetting"];
const COOKIE_NOT_YET: &[&str] = &["attributes"];
const SIMPLE: &[(&str, LoadBalancerPolicy)] = &[
    ("LEAST_CONN", LoadBalancerPolicy::LeastRequest),
    ("LEAST_REQUEST", LoadBalancerPolicy::LeastRequest),
    ("PASSTHROUGH", LoadBalancerPolicy::Passthrough),
    ("RANDOM", LoadBalancerPolicy::Random),
    ("ROUND_ROBIN", LoadBalancerPolicy::RoundRobin),
    ("UNSPECIFIED", LoadBalancerPolicy::LeastRequest),
];
const KEYS: &[&str] = &["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
const TABLES: &[&str] = &["ringHash", "maglev", "minimumRingSize"];
/// Istio's default of a ring.
const RING: u64 = 1_024;
/// Envoy's largest ring.
const MAX_RING: u64 = 8 * 1_024 * 1_024;
/// Istio: "tableSize must be less than 5000011 for maglev".
const MAX_MAGLEV: u64 = 5_000_010;

pub(super) fn load_balancer(at: &At<'_>) -> Option<LoadBalancer> {
    at.mapping(NOT_YET, |fields| {
        let simple = fields.field("simple");
        let hash = fields.field("consistentHash");
        if simple.is_some() && hash.is_some() {
            fields.at.error("`simple` and `consistentHash` exclude each other; keep one");
        }
        let simple = simple.and_then(|at| at.word(SIMPLE, &[]));
        let hash = hash.and_then(|at| consistent_hash(&at)).map(LoadBalancerPolicy::ConsistentHash);
        let locality = fields.field("localityLbSetting").and_then(|at| locality_lb(&at));
        let newer = fields.field("warmup").and_then(|at| warmup(&at));
        // Istio: `warmup` counts before the older field.
        let older = fields.whole_milliseconds("warmupDurationSecs");
        let older = older.map(|duration| Warmup { duration, minimum_percent: 10, aggression_thousandths: 1_000 });
        Some(LoadBalancer { policy: simple.or(hash).unwrap_or_default(), locality, warmup: newer.or(older) })
    })
}

fn consistent_hash(at: &At<'_>) -> Option<ConsistentHash> {
    at.mapping(&[], |fields| {
        one_at_most(fields, KEYS);
        one_at_most(fields, TABLES);
        let key = key(fields);
        let table = table(fields);
        if !KEYS.iter().any(|name| fields.has(name)) {
            fields.at.error(format!("expected one of the fields {}", one_of(KEYS.iter().copied())));
        }
        Some(ConsistentHash { key: key?, table: table? })
    })
}

fn one_at_most(fields: &Mapping<'_>, names: &[&str]) {
    let given: Vec<_> = names.iter().filter(|name| fields.has(name)).collect();
    if let [first, second, ..] = given.as_slice() {
        fields.at.error(format!("`{first}` and `{second}` exclude each other; keep one"));
    }
}

fn key(fields: &mut Mapping<'_>) -> Option<HashKey> {
    let header = fields.field("httpHeaderName").and_then(|at| header_name(&at));
    let header = header.map(|name| HashKey::Header(name.to_ascii_lowercase()));
    let cookie = fields.field("httpCookie").and_then(|at| cookie(&at));
    let source = fields.field("useSourceIp").and_then(|at| {
        let used = at.boolean()?;
        if !used {
            at.error("expected true, found false; leave it out");
        }
        used.then_some(HashKey::SourceIp)
    });
    let query = fields.non_empty_string("httpQueryParameterName").map(HashKey::QueryParameter);
    header.or(cookie).or(source).or(query)
}

fn cookie(at: &At<'_>) -> Option<HashKey> {
    at.mapping(COOKIE_NOT_YET, |fields| {
        // A name with other characters than a header's could not be told from the cookies beside it (RFC 6265
        // section 4.1.1).
        let name = fields.required("name").and_then(|at| header_name(&at));
        let path = fields.field("path").and_then(|at| cookie_path(&at));
        let ttl = fields.field("ttl").and_then(|at| at.duration());
        Some(HashKey::Cookie { name: name?, path, ttl })
    })
}

/// RFC 6265 section 4.1.1: "any CHAR except CTLs or `;`".
fn cookie_path(at: &At<'_>) -> Option<String> {
    let path = at.non_empty_string()?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        at.error("expected a path without spaces, control characters and `;`");
        return None;
    }
    Some(path)
}

fn table(fields: &mut Mapping<'_>) -> Option<HashTable> {
    let ring = |at: &At<'_>| {
        let size = at.number().map(u64::from)?;
        if size > MAX_RING {
            at.error(format!("expected a ring of at most {MAX_RING}, found {size}"));
        }
        // Istio: 0 is the same as absent.
        Some(if size == 0 { RING } else { size })
    };
    let older = fields.field("minimumRingSize");
    let maglev = fields.field("maglev");
    let ring_hash = fields.field("ringHash");
    if let Some(at) = maglev {
        return at.mapping(&[], |fields| {
            let at = fields.required("tableSize")?;
            let size = at.number().map(u64::from)?;
            if size > MAX_MAGLEV || !is_prime(size) {
                at.error(format!("expected a prime number up to {MAX_MAGLEV}, found {size}"));
            }
            Some(HashTable::Maglev(size))
        });
    }
    let size = match (ring_hash, older) {
        (Some(at), _) => at.mapping(&[], |fields| fields.field("minimumRingSize").map_or(Some(RING), |at| ring(&at))),
        (None, Some(at)) => ring(&at),
        (None, None) => Some(RING),
    };
    size.map(HashTable::Ring)
}

fn is_prime(number: u64) -> bool {
    number >= 1 && (2..=number.isqrt()).all(|factor| !number.is_multiple_of(factor))
}

fn warmup(at: &At<'_>) -> Option<Warmup> {
    at.mapping(&[], |fields| {
        let duration = fields.required("duration").and_then(|at| at.whole_milliseconds());
        let minimum_percent = match fields.field("minimumPercent") {
            None => Some(10),
            Some(at) => minimum_percent(&at),
        };
        let aggression = match fields.field("aggression") {
            None => Some(1_000),
            Some(at) => aggression(&at),
        };
        Some(Warmup { duration: duration?, minimum_percent: minimum_percent?, aggression_thousandths: aggression? })
    })
}

/// Istio's type is a number with a fraction, of which nothing is kept: `5.0` is read, `5.5` is not.
fn minimum_percent(at: &At<'_>) -> Option<u32> {
    let number = at.fraction()?;
    if number > 100.0 || number.fract() != 0.0 {
        at.error("expected a whole number from 0 to 100");
        return None;
    }
    Some(number as u32)
}

/// Istio: "aggression should be greater than 0".
fn aggression(at: &At<'_>) -> Option<u32> {
    const MOST: f64 = 1_000_000.0;
    let number = at.fraction()?;
    if !(0.001..=MOST).contains(&number) {
        at.error(format!("expected a number from 0.001 to {MOST}"));
        return None;
    }
    Some((number * 1_000.0).round() as u32)
}
