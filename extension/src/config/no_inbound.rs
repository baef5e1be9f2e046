//! The configuration of a build without the feature `inbound`, which guards no application.

use platform::env::{EnvError, Reader};

/// The port of the health check of builds that have one.
pub const HEALTH_PORT: u16 = 15021;

/// What is needed to guard an application: nobody has it here.
#[derive(Clone, Copy, Debug)]
pub enum Inbound {}

impl Inbound {
    /// `None`, and an error with `CAUSEWAY_INBOUND`: who relies on its guard must not go without one.
    pub(super) fn read(reader: &Reader<'_>, _lambda: bool) -> Result<Option<Inbound>, EnvError> {
        reader.checked("CAUSEWAY_INBOUND", |_| {
            Err("this is the build of the Lambda layer, which guards no application; the container image does, which \
                 has the feature `inbound` (infra/image)"
                .to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use platform::env::MapEnv;

    use super::*;

    #[test]
    fn who_relies_on_a_guard_is_told_that_there_is_none() {
        let read = |env: &MapEnv, lambda| Inbound::read(&Reader::new(env), lambda).map(|found| found.is_none());
        assert!(read(&MapEnv::default(), false).unwrap());
        let env = MapEnv::default().with("CAUSEWAY_INBOUND", "15006=127.0.0.1:9080");
        for lambda in [false, true] {
            let said = read(&env, lambda).unwrap_err().to_string();
            assert!(said.contains("CAUSEWAY_INBOUND") && said.contains("container image"), "{said}");
        }
    }
}
