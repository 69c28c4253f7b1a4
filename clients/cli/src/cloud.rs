//! An installation in AWS, seen from outside its API: for whoever runs it, with that person's own credentials.
//!
//! Everything is found by the installation's name; the account comes with the answer to the first question. Built without
//! the feature `aws` it only says how to build it with.

use crate::show::Failure;
use clap::Args;

/// Which installation in AWS
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// AWS region [default: the profile's]
    #[arg(long, env = "AWS_REGION", value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Profile of the AWS command line
    #[arg(long, env = "AWS_PROFILE", value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
}

/// What a build without AWS says.
#[cfg(not(feature = "aws"))]
pub(crate) fn without_aws() -> Failure {
    let text = "this `stele` was built without AWS: `cargo run --features aws -- …` builds one with it";
    Failure::CouldNot(text.to_owned())
}

#[cfg(feature = "aws")]
pub(crate) use with_aws::{Cloud, ObjectStates};

#[cfg(feature = "aws")]
mod with_aws {
    use super::{Failure, Place};
    use aws_config::{BehaviorVersion, Region, SdkConfig};
    use std::sync::Arc;
    use stele::access::{ApiKey, KeyHash, KeyText, Scope};
    use stele::ports::{ApiKeys, Clock, Random};
    use stele::time::Timestamp;
    use stele_adapters::aws::{Aws, http_client};
    use stele_adapters::clock::{SystemClock, SystemRandom};
    use stele_adapters::dynamodb::DynamoStore;
    use stele_adapters::places::Places;
    use stele_adapters::s3::{LockMode, LockedBucket};
    use stele_adapters::secrets::Wrapping;
    use stele_seal::{Rebuild, Rebuilt, Seal, SealSettings};

    /// An installation and the clients to ask about it.
    pub(crate) struct Cloud {
        pub(crate) name: String,
        pub(crate) account: String,
        pub(crate) region: String,
        pub(crate) config: SdkConfig,
        pub(crate) aws: Aws,
    }

    impl Cloud {
        /// Finds an installation by its name.
        pub(crate) async fn open(name: &str, place: &Place) -> Result<Cloud, Failure> {
            let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http_client());
            if let Some(region) = &place.region {
                loader = loader.region(Region::new(region.clone()));
            }
            if let Some(profile) = &place.profile {
                loader = loader.profile_name(profile);
            }
            let config = loader.load().await;
            let aws = Aws::from_config(config.clone());
            let table = format!("{name}-control");
            let described = aws.dynamodb().describe_table().table_name(&table).send().await.map_err(|e| {
                let why = aws_sdk_error(&e);
                Failure::CouldNot(format!(
                    "the installation `{name}` was not found: table `{table}` can't be described ({why}); check \
                     --installation, --region and --profile"
                ))
            })?;
            // arn:aws:dynamodb:<region>:<account>:table/<name>
            let arn = described.table.and_then(|table| table.table_arn).unwrap_or_default();
            let mut parts = arn.split(':').skip(3);
            match (parts.next(), parts.next()) {
                (Some(region), Some(account)) if !account.is_empty() => Ok(Cloud {
                    name: name.to_owned(),
                    account: account.to_owned(),
                    region: region.to_owned(),
                    config,
                    aws,
                }),
                _ => Err(Failure::CouldNot(format!("`{arn}` is not the name of a table"))),
            }
        }

        /// The bucket of locked objects.
        pub(crate) fn bucket(&self) -> String {
            format!("{}-archive-{}-{}", self.name, self.account, self.region)
        }

        /// The name of one of its tables, queues or functions.
        pub(crate) fn named(&self, what: &str) -> String {
            format!("{}-{what}", self.name)
        }

        /// All ports on DynamoDB.
        pub(crate) fn store(&self) -> DynamoStore {
            DynamoStore::new(self.aws.dynamodb(), &self.named("events"), &self.named("control"))
        }

        /// The locked objects, for reading.
        pub(crate) fn objects(&self) -> LockedBucket {
            LockedBucket::new(self.aws.s3(), self.bucket(), LockMode::default())
        }

        /// What stands on locked objects, for reading.
        pub(crate) fn states(&self) -> ObjectStates {
            ObjectStates { s3: self.aws.s3(), bucket: self.bucket() }
        }

        /// Restores the database from the locked objects. It writes nothing into the bucket: the next sealing
        /// publishes the checkpoint.
        pub(crate) async fn rebuild(&self, progress: &(dyn Fn(&Rebuilt) + Sync)) -> stele::Result<Rebuilt> {
            let (store, objects) = (Arc::new(self.store()), Arc::new(self.objects()));
            let seeds = Wrapping::new(self.aws.kms()).stored_signing_seeds(&*objects).await?;
            let places = Arc::new(Places::new(store.clone(), store.clone(), objects.clone()));
            let settings = SealSettings { witnesses: Vec::new(), seeds, publish_every_ms: u64::MAX };
            let seal = Seal::new(
                store.clone(),
                objects.clone(),
                store.clone(),
                places,
                Arc::new(SystemClock),
                settings,
            );
            Rebuild::new(Arc::new(seal), store.clone(), store, objects).run(progress).await
        }

        /// Makes the first key of an installation, which makes all others: every scope, any tenant.
        pub(crate) async fn bootstrap_key(&self, env: &str, name: &str) -> stele::Result<(String, String)> {
            let mut random = [0; 40];
            SystemRandom.fill(&mut random);
            let text = KeyText::new(env, &random);
            let key = ApiKey {
                key_id: text.key_id.clone(),
                tenant: None,
                scopes: Scope::ALL.to_vec(),
                name: name.to_owned(),
                created_ms: SystemClock.now().ms(),
                revoked_ms: None,
            };
            self.store().create_api_key(KeyHash::of(&text.text), &key).await?;
            Ok((text.text, text.key_id))
        }
    }

    /// What stands on locked objects, in S3's own words: also of objects nobody of us wrote.
    pub(crate) struct ObjectStates {
        s3: aws_sdk_s3::Client,
        bucket: String,
    }

    /// What stands on one.
    pub(crate) struct ObjectState {
        pub(crate) mode: Option<String>,
        pub(crate) retain_until: Option<Timestamp>,
        pub(crate) hold: bool,
        pub(crate) tags: Vec<(String, String)>,
    }

    impl ObjectStates {
        /// What stands on a version; `None` if there is none.
        pub(crate) async fn state(&self, key: &str, version: &str) -> Result<Option<ObjectState>, String> {
            let head = self.s3.head_object().bucket(&self.bucket).key(key).version_id(version).send().await;
            let head = match head {
                Ok(head) => head,
                Err(e) if e.as_service_error().is_some_and(|e| e.is_not_found()) => return Ok(None),
                Err(e) => return Err(format!("HeadObject: {}", aws_sdk_error(&e))),
            };
            let tags =
                self.s3.get_object_tagging().bucket(&self.bucket).key(key).version_id(version).send().await;
            let tags = tags.map_err(|e| format!("GetObjectTagging: {}", aws_sdk_error(&e)))?.tag_set;
            let until = head.object_lock_retain_until_date.and_then(|until| until.to_millis().ok());
            Ok(Some(ObjectState {
                mode: head.object_lock_mode.map(|mode| mode.as_str().to_owned()),
                retain_until: until.and_then(|ms| u64::try_from(ms).ok()).map(Timestamp::from_ms),
                hold: head.object_lock_legal_hold_status.is_some_and(|status| status.as_str() == "ON"),
                tags: tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
            }))
        }
    }

    /// The last word of an error's chain, which is what the service or the network said.
    pub(crate) fn aws_sdk_error(error: &(dyn std::error::Error + 'static)) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text = inner.to_string();
            source = inner.source();
        }
        text
    }
}
