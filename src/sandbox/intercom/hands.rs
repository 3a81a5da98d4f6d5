//! People's hands: what teammates and contacts do in the apps, without HTTP.
/// x
#[derive(Debug, Clone, Default)]
pub struct ContactSeed {}
/// x
#[derive(Debug)]
pub struct HandsError;
