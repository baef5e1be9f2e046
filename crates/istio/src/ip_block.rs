use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address or a block of addresses, as in `ipBlocks`: `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`. An address alone is
/// a block of one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct IpBlock {
    /// The address as written; bits behind the prefix do not count.
    pub address: IpAddr,
    /// Leading bits that count: up to 32 for IPv4, up to 128 for IPv6.
    pub prefix: u8,
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The text is neither an address nor a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected an IP address or a CIDR block")]
pub struct InvalidIpBlock;

impl FromStr for IpBlock {
    type Err = InvalidIpBlock;

    /// Reads what Istio reads by Go's `netip.ParsePrefix` and `netip.ParseAddr`.
    fn from_str(text: &str) -> Result<Self, InvalidIpBlock> {
        let most = |address: &IpAddr| if address.is_ipv4() { 32 } else { 128 };
        let Some((address, prefix)) = text.split_once('/') else {
            let address: IpAddr = text.parse().map_err(|_| InvalidIpBlock)?;
            return Ok(Self { address, prefix: most(&address) });
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidIpBlock)?;
        // Go: no sign, no leading zero.
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        let prefix: u8 = prefix.parse().ok().filter(|_| digits).ok_or(InvalidIpBlock)?;
        if prefix > most(&address) {
            return Err(InvalidIpBlock);
        }
        Ok(Self { address, prefix })
    }
}
