//! The installation's secrets on AWS: 32 random bytes each, made and wrapped by KMS, whose durable home is a locked
//! object. Nobody but a holder of the KMS key can read them, and nobody at all can lose them while the lock lasts.
//!
//! Who may unwrap which is decided by the encryption context in the KMS key's and the roles' policies.

use crate::failure::failed;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use stele::layout::Object;
use stele::ports::{Clock, LockedObjects};
use stele::public_key::SigningSeeds;
use stele::{Error, Result, limits};

/// Name of the encryption context's only member.
const CONTEXT: &str = "stele";
const SECRET_BYTES: i32 = 32;

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The master secret, from which those of tenants follow.
    Master,
    /// The Ed25519 seed checkpoints are signed with.
    Signing,
}

impl Purpose {
    /// In encryption contexts and object keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Purpose::Master => "master",
            Purpose::Signing => "signing",
        }
    }

    /// The first one has the purpose for a name, later ones a number behind it.
    fn object(self, generation: u32) -> Object {
        let purpose = match generation {
            0 | 1 => self.as_str().to_owned(),
            later => format!("{}{later}", self.as_str()),
        };
        Object::WrappedSecret { purpose }
    }
}

/// Unwraps secrets, and wraps new ones.
#[derive(Clone, Debug)]
pub struct Wrapping {
    client: Client,
}

impl Wrapping {
    /// By KMS.
    pub fn new(client: Client) -> Wrapping {
        Wrapping { client }
    }

    /// A secret out of its wrapping.
    pub async fn unwrapped(&self, purpose: Purpose, wrapped: &[u8]) -> Result<[u8; 32]> {
        let request = self
            .client
            .decrypt()
            .ciphertext_blob(Blob::new(wrapped))
            .encryption_context(CONTEXT, purpose.as_str());
        let answer = request.send().await.map_err(|e| failed("unwrapping a secret", e))?;
        let plain = answer.plaintext.map(Blob::into_inner).unwrap_or_default();
        let length = plain.len();
        plain.try_into().map_err(|_| {
            Error::corrupt(
                format!("the wrapped secret `{}`", purpose.as_str()),
                "32 bytes",
                format!("{length} bytes"),
            )
        })
    }

    /// The same, from the base64 that functions have in their environment.
    pub async fn unwrapped_base64(&self, purpose: Purpose, wrapped: &str) -> Result<[u8; 32]> {
        let bytes = STANDARD
            .decode(wrapped.trim())
            .map_err(|e| Error::corrupt(format!("the wrapped secret `{}`", purpose.as_str()), "base64", e))?;
        self.unwrapped(purpose, &bytes).await
    }

    /// The seeds checkpoints are signed with, oldest first, from base64 separated by commas.
    pub async fn signing_seeds(&self, wrapped: &str) -> Result<SigningSeeds> {
        let mut seeds = Vec::new();
        for wrapped in wrapped.split(',') {
            seeds.push(self.unwrapped_base64(Purpose::Signing, wrapped).await?);
        }
        SigningSeeds::new(seeds).ok_or_else(|| Error::corrupt("the wrapped seeds", "at least one", "none"))
    }

    /// The seeds that are stored, oldest first.
    pub async fn stored_signing_seeds(&self, objects: &dyn LockedObjects) -> Result<SigningSeeds> {
        let mut seeds =
            vec![self.unwrapped(Purpose::Signing, &stored(Purpose::Signing, 1, objects).await?).await?];
        for generation in 2.. {
            let Some(wrapped) = objects.object(&Purpose::Signing.object(generation).key()).await? else {
                break;
            };
            seeds.push(self.unwrapped(Purpose::Signing, &wrapped.bytes).await?);
        }
        SigningSeeds::new(seeds).ok_or_else(|| Error::corrupt("the wrapped seeds", "at least one", "none"))
    }

    /// The wrapped secret that is stored, or a new one that is stored now; of two makers at once the first one's.
    /// A crash on the way leaves nothing, or the secret stored. `generation` counts from 1.
    pub async fn stored_or_new(
        &self,
        purpose: Purpose,
        generation: u32,
        key_id: &str,
        objects: &dyn LockedObjects,
        clock: &dyn Clock,
    ) -> Result<Bytes> {
        let key = purpose.object(generation).key();
        if let Some(stored) = objects.object(&key).await? {
            return Ok(stored.bytes);
        }
        let request = self
            .client
            .generate_data_key_without_plaintext()
            .key_id(key_id)
            .number_of_bytes(SECRET_BYTES)
            .encryption_context(CONTEXT, purpose.as_str());
        let answer = request.send().await.map_err(|e| failed("making a secret", e))?;
        let wrapped = answer.ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        let until = clock.now().plus_days(limits::CHECKPOINT_LOCK_DAYS);
        objects.put_if_absent(&key, Bytes::from(wrapped), until).await?;
        stored(purpose, generation, objects).await
    }
}

/// The wrapped secret that is stored.
pub async fn stored(purpose: Purpose, generation: u32, objects: &dyn LockedObjects) -> Result<Bytes> {
    let key = purpose.object(generation).key();
    let stored = objects.object(&key).await?;
    Ok(stored.ok_or_else(|| Error::corrupt(&key, "a wrapped secret", "nothing"))?.bytes)
}
