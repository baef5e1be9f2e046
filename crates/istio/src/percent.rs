/// A share of requests, in millionths: Istio's `percentage.value` has a fraction.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Percent(u32);

impl Percent {
    /// Every request.
    pub const ALL: Percent = Percent(1_000_000);

    /// So many millionths; more than all is all.
    pub fn from_millionths(millionths: u32) -> Percent {
        Percent(millionths.min(1_000_000))
    }

    /// Millionths, 0 to 1,000,000.
    pub fn millionths(self) -> u32 {
        self.0
    }
}
