//! What the environment says about the calls to the application: the inbound side of a sidecar.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use platform::api_keys::ApiKeysConfig;
use platform::env::{EnvError, Reader};
use platform::jwks::JwksSettings;
use platform::revocations::RevocationsConfig;

/// The port of the health check where none is configured: that of Istio's sidecars.
pub const HEALTH_PORT: u16 = 15021;

/// The most ports of the application that are guarded.
pub const MAX_INBOUND_PORTS: usize = 16;

/// What names the ports.
const PORTS: &str = "CAUSEWAY_INBOUND";

/// What is needed to guard an application.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// `CAUSEWAY_INBOUND`: where to listen, and for which port of the application.
    pub ports: Vec<InboundPort>,
    /// Where all of them and the health check listen.
    pub listen: IpAddr,
    /// `CAUSEWAY_HEALTH_PORT`: the health check's; 0 takes a free one (not from the environment).
    pub health_port: u16,
    /// `CAUSEWAY_DRAIN_ACCEPT_SECONDS`: how long new connections are still taken after SIGTERM, as load balancers need
    /// some time to look elsewhere. At most half of [`drain`](Self::drain) counts.
    pub drain_accept: Duration,
    /// `CAUSEWAY_DRAIN_SECONDS`: how long all of the end may take, with the time before.
    pub drain: Duration,
    /// Where API keys are kept; without it, every API key is refused as `api_key_unavailable`.
    pub api_keys: Option<ApiKeysConfig>,
    /// `CAUSEWAY_ALLOW_PRIVATE_ISSUERS` and `CAUSEWAY_ISSUER_ROOTS`: how key sets are fetched.
    pub jwks: JwksSettings,
    /// Where the list of revoked credentials is fetched from; without it, there is none but the bundle's.
    pub revocations: Option<RevocationsConfig>,
}

/// One port that is guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// The port that others call; 0 takes a free one (not from the environment).
    pub port: u16,
    /// Where the application listens: a loopback address. Its port is what policies call `destination.port`.
    pub application: SocketAddr,
    /// Whether the application is spoken to in HTTP/2 without TLS, as gRPC needs it.
    pub h2c: bool,
}

impl Inbound {
    /// Reads the variables; `None` without `CAUSEWAY_INBOUND`. `lambda` says that this is a Lambda function, and
    /// `namespace` and `labels` whether there are such: without them the policies could not be found.
    pub(super) fn read(reader: &Reader<'_>, lambda: bool) -> Result<Option<Inbound>, EnvError> {
        let text = reader.optional(PORTS);
        if let Ok(None) = text {
            // The other variables are unknown then, and a process with them is told so.
            return Ok(None);
        }
        // Every name is asked for before the first error leaves, or `finish` would call the rest unknown.
        let ports = reader.checked(PORTS, ports);
        let labels = reader.optional("CAUSEWAY_LABELS");
        let namespace = reader.optional("CAUSEWAY_NAMESPACE");
        let health = reader.number("CAUSEWAY_HEALTH_PORT", u64::from(HEALTH_PORT), 1, u64::from(u16::MAX));
        let accept = reader.number("CAUSEWAY_DRAIN_ACCEPT_SECONDS", 5, 0, 60);
        let drain = reader.number("CAUSEWAY_DRAIN_SECONDS", 30, 1, 600);
        let api_keys = ApiKeysConfig::from_env(reader);
        let jwks = JwksSettings::from_env(reader);
        let revocations = RevocationsConfig::from_env(reader);
        let invalid = |value: Option<String>, why: &str| EnvError::Invalid {
            name: PORTS.to_owned(),
            value: value.unwrap_or_default(),
            why: why.to_owned(),
        };
        let Some(ports) = ports? else { return Ok(None) };
        if lambda {
            return Err(invalid(text?, "a Lambda function is called by Lambda alone, expected none"));
        }
        for (name, value) in [("CAUSEWAY_NAMESPACE", namespace?), ("CAUSEWAY_LABELS", labels?)] {
            if value.is_none() {
                return Err(EnvError::HalfGroup { present: PORTS.to_owned(), missing: name.to_owned() });
            }
        }
        let health_port = u16::try_from(health?).unwrap_or(HEALTH_PORT);
        if ports.iter().any(|one| one.port == health_port) {
            return Err(invalid(text?, "found the port of CAUSEWAY_HEALTH_PORT, expected another one"));
        }
        Ok(Some(Inbound {
            ports,
            listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            health_port,
            drain_accept: Duration::from_secs(accept?),
            drain: Duration::from_secs(drain?),
            api_keys: api_keys?,
            jwks: jwks?,
            revocations: revocations?,
        }))
    }
}

/// `port=ip:port[/h2c],…`
fn ports(text: &str) -> Result<Vec<InboundPort>, String> {
    let found: Vec<InboundPort> = text.split(',').map(|item| one(item.trim())).collect::<Result<_, String>>()?;
    let mut taken: Vec<u16> = found.iter().map(|one| one.port).collect();
    taken.sort_unstable();
    if taken.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("found one port twice".to_owned());
    }
    // To ourselves it would go round for ever.
    if found.iter().any(|one| taken.contains(&one.application.port())) {
        return Err("found a port of ours as the application's".to_owned());
    }
    match found.len() > MAX_INBOUND_PORTS {
        true => Err(format!("found {} ports, expected at most {MAX_INBOUND_PORTS}", found.len())),
        false => Ok(found),
    }
}

fn one(item: &str) -> Result<InboundPort, String> {
    let wrong = || {
        format!(
            "found {item:?}, expected port=ip:port or port=ip:port/h2c with a loopback address, such as \
             15006=127.0.0.1:9080"
        )
    };
    let (port, application) = item.split_once('=').ok_or_else(wrong)?;
    let (application, h2c) = match application.strip_suffix("/h2c") {
        Some(application) => (application, true),
        None => (application, false),
    };
    let port = port.parse().ok().filter(|port: &u16| *port != 0).ok_or_else(wrong)?;
    let application: SocketAddr = application.parse().map_err(|_| wrong())?;
    // What was let in must not leave the task again in the clear.
    if !application.ip().is_loopback() || application.port() == 0 {
        return Err(wrong());
    }
    Ok(InboundPort { port, application, h2c })
}

#[cfg(test)]
mod tests {
    use platform::env::MapEnv;

    use super::*;

    fn read(variables: &[(&str, &str)], lambda: bool) -> Result<Option<Inbound>, String> {
        let env = variables.iter().fold(MapEnv::default(), |env, (name, value)| env.with(name, *value));
        Inbound::read(&Reader::new(&env), lambda).map_err(|error| error.to_string())
    }

    const WHO: [(&str, &str); 2] = [("CAUSEWAY_NAMESPACE", "bookinfo"), ("CAUSEWAY_LABELS", "app=ratings")];

    #[test]
    fn ports_are_read_and_there_are_none_by_themselves() {
        assert!(read(&WHO, false).unwrap().is_none());
        let inbound = |ports| read(&[WHO[0], WHO[1], (PORTS, ports)], false).unwrap().unwrap();
        let found = inbound("15006=127.0.0.1:9080, 15007=[::1]:50051/h2c");
        let port = |port, application: &str, h2c| InboundPort { port, application: application.parse().unwrap(), h2c };
        assert_eq!(found.ports, [port(15006, "127.0.0.1:9080", false), port(15007, "[::1]:50051", true)]);
        assert_eq!((found.health_port, found.listen.is_unspecified()), (HEALTH_PORT, true));
        assert_eq!((found.drain_accept.as_secs(), found.drain.as_secs()), (5, 30));
    }

    #[test]
    fn what_would_be_wrong_or_unguarded_is_refused() {
        for (ports, expected) in [
            ("15006", "expected port=ip:port"),
            ("0=127.0.0.1:9080", "expected port=ip:port"),
            ("15006=9080", "expected port=ip:port"),
            ("15006=localhost:9080", "expected port=ip:port"),
            ("15006=10.0.0.1:9080", "loopback"),
            ("15006=0.0.0.0:9080", "loopback"),
            ("15006=127.0.0.1:0", "expected port=ip:port"),
            ("15006=127.0.0.1:9080/h2", "expected port=ip:port"),
            ("15006=127.0.0.1:9080,15006=127.0.0.1:9081", "twice"),
            ("15006=127.0.0.1:15006", "port of ours"),
            ("15006=127.0.0.1:9080,", "expected port=ip:port"),
            ("15021=127.0.0.1:9080", "CAUSEWAY_HEALTH_PORT"),
        ] {
            let said = read(&[WHO[0], WHO[1], (PORTS, ports)], false).unwrap_err();
            assert!(said.contains(PORTS) && said.contains(expected), "{ports}: {said}");
        }
        let good = (PORTS, "15006=127.0.0.1:9080");
        assert!(read(&[WHO[0], WHO[1], good], true).unwrap_err().contains("Lambda"));
        assert!(read(&[WHO[0], good], false).unwrap_err().contains("CAUSEWAY_LABELS is not set"));
        assert!(read(&[WHO[1], good], false).unwrap_err().contains("CAUSEWAY_NAMESPACE is not set"));
    }
}
