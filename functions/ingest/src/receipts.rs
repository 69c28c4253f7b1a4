//! Signed receipts: what an event's sender can hold against whoever loses it.

use std::sync::OnceLock;
use stele::access::Secrets;
use stele::limits;
use stele::receipt::{self, Receipt};
use stele::tlog::note::Signer;
use stele::{Code, Error, Result};
use stele_adapters::acceptor;

/// Signs receipts, with a key that signs nothing else.
pub struct ReceiptSigner {
    seed: [u8; 32],
    /// Of an installation, whose logs all share one name.
    signer: OnceLock<Signer>,
}

impl ReceiptSigner {
    /// With the key that follows from an installation's secret.
    pub fn new(secrets: &Secrets) -> ReceiptSigner {
        ReceiptSigner { seed: secrets.receipt_seed(), signer: OnceLock::new() }
    }

    /// The signed note about a stored event. A replay's is the first one's: what it says is what was stored.
    pub(crate) fn sign(&self, stored: &acceptor::Receipt) -> Result<String> {
        let name = receipt::key_name(&stored.origin);
        let signer = self.signer.get_or_init(|| Signer::new(name.clone(), &self.seed));
        let promise = Receipt {
            origin: stored.origin.clone(),
            tenant: stored.record.tenant.clone(),
            id: stored.record.id,
            leaf_hash: stored.record.leaf_hash,
            received_at: stored.record.received_at,
            sealed_within_seconds: limits::SEALED_WITHIN_SECONDS,
        };
        let signed = match signer.name() == &name {
            true => promise.sign(signer),
            // A log of another name is one that was moved here.
            false => promise.sign(&Signer::new(name, &self.seed)),
        };
        signed.map_err(|e| Error::new(Code::Internal, "signing a receipt").with_source(e))
    }
}
