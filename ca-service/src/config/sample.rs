//! What `eic-ca init` writes: a configuration, a policy and an inventory that work on loopback at once.
//! The keys are made by `keys`; nothing here is secret.

/// `eic-ca.toml`
pub const CONFIG: &str = r#"# The CA service. `eic-ca config check FILE` explains every mistake.
# Relative paths count from this file's folder.

[server]
listen = "127.0.0.1:8443"
# What clients give to `eic-login setup`. Another name or port is another audience for every proof.
public_url = "http://127.0.0.1:8443"
# Plain HTTP is served on loopback only. Elsewhere:
# tls = { certificate = "server.crt", key = "server.key" }
# Whose X-Forwarded-For counts:
# trusted_proxies = ["10.0.0.10/32"]

[store]
path = "eic-ca.db"

[keys]
user_ca = { signer = "local", file = "keys/user-ca" }
# user_ca = { signer = "kms", arn = "arn:aws:kms:eu-west-1:111122223333:key/…", region = "eu-west-1" }
# Another key that hosts know already, for a failover by `eic-ca keys activate`:
# spare_user_cas = [{ signer = "local", file = "keys/user-ca-2" }]
# rotate_after_days = 365 # the spare takes over by itself, and the key before it is retired (docs/rotation.md)
# propagation_seconds = 86400 # a key signs only so long after hosts could first have it
# Keys in memory that the user CA endorses and that sign in its place, so that KMS is off the path of a login
# (docs/rotation.md); never for names with uid 0 and for fleets marked `kms_only`:
# endorsed = { sign_seconds = 43200, overlap_seconds = 43200, ahead = 1, propagation_seconds = 3600 }
host_ca = { signer = "local", file = "keys/host-ca" }
bundle = "keys/bundle"
root = "keys/root"
root_document = "keys/root.json"
# Two files while a secret is being replaced: the first makes grants, both verify them.
grant_secrets = ["keys/grant-secret"]

[policy]
files = ["policy.json"]
# Names with uid 0 beside `root` and `toor`:
# uid0_names = ["admin"]

# An identity policy pasted from IAM, and whom it is attached to:
# [[policy.attachments]]
# principal = "arn:aws:iam::111122223333:role/Dev"
# file = "dev.json"
# accounts = ["444455556666"] # reached besides 111122223333
# The same for the subjects of an issuer; the accounts are always listed:
# [[policy.attachments]]
# issuer = "https://token.actions.githubusercontent.com"
# subject = "repo:acme/app:environment:prod"
# file = "deploy.json"
# accounts = ["111122223333"]

[aws_sts]
# Accounts whose identities are accepted; none named: policy alone decides.
accounts = []
# Accounts in which nobody but IAM Identity Center can make AWSReservedSSO_ roles:
# sso_accounts = ["111122223333"]
# Ask IAM whether a role's sessions were revoked (needs iam:GetRolePolicy in each account):
# role_revocation = true
# Accounts with outbound web identity: a token of sts:GetWebIdentityToken is taken beside the proof, or demanded:
# [[aws_sts.web_identity]]
# account = "111122223333"
# issuer = "https://00000000-0000-0000-0000-000000000000.tokens.sts.global.api.aws"
# algorithms = ["ES384"]
# required = true

# Callers without AWS identities: issuers whose tokens are taken (docs/policy.md).
# [[oidc]]
# issuer = "https://token.actions.githubusercontent.com"
# algorithms = ["RS256"]
# client_id = "0oa1b2c3d4E5f6G7h8i9" # where people sign in: the issuer's public client for this CA alone
# claims = ["repository", "repository_id", "environment", "ref"] # that policies name as oidc:…; absent: all
# [oidc.require]
# repository_owner_id = ["123456"]

[sessions]
mode = "on"
ttl_seconds = 900

[inventory]
static = "inventory.toml"

# [[inventory.ec2]]
# account = "111122223333"
# regions = ["eu-west-1"]
# assume_role = "arn:aws:iam::111122223333:role/eic-inventory"

[inventory.enrolment]
tag = "eic:enrolled"
value = "true"
instance_connect = "on"

# Hosts that fetch their own certificates (docs/hosts.md); each account needs its [[inventory.ec2]]:
# [hosts]
# identity_certificates = "aws-certificates" # one <region>.pem each, from AWS's page
# [[hosts.accounts]]
# account = "111122223333"
# first_enrolment = "console" # or approval, token, evidence

[certificates]
default_ttl_seconds = 300
max_ttl_seconds = 3600

# Hosts under one name, for automation; a certificate for a fleet opens all of them:
# [fleets.web]
# accounts = ["111122223333"]
# tags = { role = "web" }

# Private addresses that policies know by a public one (`aws:SourceIp`):
# [[source.nat]]
# range = "10.0.0.0/8"
# public = "203.0.113.5"

# Revocations and host views that hosts fetch:
# [bundle]
# refresh_seconds = 86400      # a host without news for so long says that it is out of date
# hard_stop_seconds = 2592000  # and opens to no certificate after so long
# stage = "hybrid"             # "certificates-only": Instance Connect keys count no more
# long_polls = 1024

# For hosts that fetch from a folder, a web server or S3 (docs/revocation.md):
# [publish]
# to = "s3://eic-trust/prod" # or a folder
# region = "eu-west-1"

# What HTTPS to AWS and to issuers goes through (variables of the environment never count); a file with a password in it
# is for the service alone to read:
# [outbound]
# proxy = "http://proxy.internal:3128" # or http://user:password@…
# no_proxy = ["10.0.0.0/8", "vpce.amazonaws.com"] # names with all below them, addresses, networks

# [limits]
# caller_rate = 50 # requests per second and caller, on average; ten times that for all sessions of a role whose names are only claimed
# peer_rate = 500  # requests per second and address
# connections = 2048
# body_bytes = 65536
"#;

/// `policy.json`
pub const POLICY: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "DevelopersOnDevelopmentHosts",
      "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Dev" },
      "Action": "ec2-instance-connect:SendSSHPublicKey",
      "Resource": "arn:aws:ec2:*:111122223333:instance/*",
      "Condition": {
        "StringEquals": {
          "ec2:osuser": ["ubuntu", "ec2-user"],
          "aws:ResourceTag/env": "dev"
        }
      }
    }
  ]
}
"#;

/// `inventory.toml`
pub const INVENTORY: &str = r#"# Hosts that EC2 is not asked for.

[[instance]]
id = "i-0123456789abcdef0"
account = "111122223333"
region = "eu-west-1"
addresses = ["192.0.2.10"]
enrolment = "enrolled"
instance_connect = "on"
users = ["ubuntu"]
tags = { Name = "web-1", env = "dev" }
"#;
