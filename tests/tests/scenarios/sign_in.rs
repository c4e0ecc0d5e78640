//! People without AWS credentials: they sign in at an issuer, in the browser or by a device's code, and then use plain
//! ssh, as far as policy goes by their group or address. The issuer is a stand-in behind TLS; all else is ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use eic_lab::aws::ACCOUNT;
use eic_lab::process::Output;
use eic_lab::standin::issuer::{CLIENT_ID, ISSUER, Issuer, Person};
use eic_lab::{Ca, Client, Host, Lab, small_fleet};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

/// What opens the issuer's pages: it has the person's session, and follows every redirect. With a second argument it
/// sends that form.
const BROWSER: &str = r#"
import sys, urllib.request
form = sys.argv[2].encode() if sys.argv[2:] else None
page = urllib.request.Request(sys.argv[1], form)
page.add_unredirected_header("Cookie", "theme=dark; session=SESSION")
print(urllib.request.urlopen(page, timeout=10).read().decode())
"#;

/// A company whose people have no AWS credentials.
struct Company {
    web: Host,
    ca: Ca,
    issuer: Issuer,
    roots: PathBuf,
    lab: Lab,
}

/// The group `ops`, and cy by his address, may log in as `ubuntu` to hosts of team `web`.
fn policy() -> String {
    let statement = |operator: &str, key: &str, value: &str| {
        let mut condition = json!({
            "StringEquals": {"ec2:osuser": "ubuntu", "aws:ResourceTag/team": "web"},
        });
        condition[operator][key] = value.into();
        json!({
            "Effect": "Allow", "Principal": {"Federated": "id.acme.example"},
            "Action": "ec2-instance-connect:SendSSHPublicKey",
            "Resource": format!("arn:aws:ec2:*:{ACCOUNT}:instance/*"), "Condition": condition,
        })
    };
    json!({"Version": "2012-10-17", "Statement": [
        statement("ForAnyValue:StringEquals", "oidc:groups", "ops"),
        statement("StringEquals", "oidc:email", "cy@acme.example"),
    ]})
    .to_string()
}

fn company() -> Company {
    let lab = Lab::new().unwrap();
    let issuer = Issuer::start(&lab).unwrap();
    let taken = json!([{
        "issuer": ISSUER, "client_id": CLIENT_ID, "algorithms": ["EdDSA"], "claims": ["email", "groups"],
        "private_addresses": true,
    }]);
    let ca = small_fleet::ca(&lab).unwrap().https().unwrap();
    let ca = ca
        .policy(&policy())
        .set("oidc", toml::Value::try_from(&taken).unwrap())
        .env("SSL_CERT_FILE", text(issuer.tls_root()))
        .start()
        .unwrap();
    let web = small_fleet::enrolled_host(&lab, &ca, "web-1").unwrap();
    let roots = issuer.tls_roots_with(ca.tls_root().unwrap()).unwrap();
    Company {
        web,
        ca,
        issuer,
        roots,
        lab,
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn person(name: &str, email: &str, groups: &[&str]) -> Person {
    Person {
        subject: format!("00u1{name}"),
        email: email.to_owned(),
        email_verified: true,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    }
}

impl Company {
    /// Somebody's machine, which trusts the company's TLS.
    fn machine(&self, name: &str) -> Client {
        let machine = self.lab.client(name).unwrap();
        machine.env("SSL_CERT_FILE", text(&self.roots))
    }

    /// A person with an account at the issuer and a browser, set up with the CA as docs/client.md says.
    fn staff(&self, name: &str, person: Person) -> Client {
        let session = self.issuer.enrol(person).unwrap();
        let staff = self.machine(name);
        let script = BROWSER.replace("SESSION", &session);
        std::fs::write(staff.home().join("browser.py"), script).unwrap();
        let staff = staff.env("BROWSER", format!("python3 /home/{name}/browser.py"));
        let (url, fingerprint) = (self.ca.url(), self.ca.root_fingerprint());
        let setup = [
            "setup",
            &url,
            "--fingerprint",
            fingerprint,
            "--issuer",
            ISSUER,
            "--client-id",
            CLIENT_ID,
            "--yes",
        ];
        staff.run("eic-login", setup).unwrap().success().unwrap();
        // An issuer tells of people only what it is asked for.
        let config = staff.home().join(".config/eic/config.toml");
        let written = std::fs::read_to_string(&config).unwrap();
        let asking = written.replace(
            "[id_token]\n",
            "[id_token]\nscopes = [\"email\", \"groups\"]\n",
        );
        assert_ne!(asking, written);
        std::fs::write(&config, asking).unwrap();
        staff
    }

    fn ssh(&self, client: &Client) -> Output {
        let target = format!("ubuntu@{}", self.web.id());
        client.run("ssh", [target.as_str(), "whoami"]).unwrap()
    }

    /// What ssh says to somebody whom it does not let in.
    fn refused(&self, client: &Client) -> String {
        let output = self.ssh(client);
        assert_eq!(output.status.code(), Some(255), "{}", output.stderr);
        output.stderr
    }

    fn let_in(&self, client: &Client) {
        let output = self.ssh(client).success().unwrap();
        assert_eq!(output.stdout.trim(), "ubuntu");
    }

    fn audit(&self) -> String {
        self.ca.run(&["audit", "query", "--json"]).unwrap()
    }

    /// sshd's log and the audit name a person who logged in.
    fn assert_named(&self, email: &str, subject: &str) {
        let id = format!("ID eic:oidc/id.acme.example/{email}");
        self.web.log_line(&id, SOON).unwrap();
        let audit = self.audit();
        for told in ["WebIdentityUser", email, subject] {
            assert!(audit.contains(told), "{told}: {audit}");
        }
    }

    /// What ssh says to a thief of the newest token.
    fn refused_with_newest_token(&self, thief: &str) -> String {
        let token = self.issuer.given().pop().unwrap();
        let thief = self.machine(thief).env("EIC_ID_TOKEN", token);
        small_fleet::set_up(&thief, &self.ca).unwrap();
        self.refused(&thief)
    }
}

fn sign_in(person: &Client) -> String {
    let output = person.run("eic-login", ["--browser"]).unwrap();
    output.success().unwrap().stdout
}

#[test]
fn people_whom_policy_does_not_admit_and_thieves_of_tokens_are_refused_at_ssh_with_the_reason() {
    // B-12, B-25
    let company = company();
    let bob = company.staff(
        "bob",
        person("bob", "bob@acme.example", &["sales", "ops-2"]),
    );
    assert!(company.refused(&bob).contains("run `eic-login`"));
    let shown = sign_in(&bob);
    assert!(shown.contains("as 00u1bob (name attested)"), "{shown}");
    assert!(!shown.contains(company.web.id()), "{shown}");
    let said = company.refused(&bob);
    assert!(said.contains("or you may not log in there"), "{said}");

    // An address that the issuer did not verify is anybody's.
    let eve = Person {
        email_verified: false,
        ..person("eve", "cy@acme.example", &[])
    };
    let eve = company.staff("eve", eve);
    assert!(sign_in(&eve).contains("as 00u1eve "));
    let said = company.refused(&eve);
    assert!(said.contains("or you may not log in there"), "{said}");

    // A token of the browser is bound to the key that it was asked for with.
    let ann = company.staff("ann", person("ann", "ann@acme.example", &["ops"]));
    sign_in(&ann);
    let said = company.refused_with_newest_token("mallory");
    assert!(said.contains("with another key"), "{said}");
    assert!(
        !company.web.log().contains("Accepted"),
        "{}",
        company.web.log()
    );
    company.let_in(&ann);
}

/// Somebody at a machine without a browser, who enters the code elsewhere once the device has been told to wait.
fn sign_in_by_device(company: &Company, person: &Client) {
    let mut device = person.command("eic-login").arg("--device").start().unwrap();
    let told_to_wait = || (company.issuer.pending() == 1).then_some(());
    eic_lab::deadline::wait_for("the device to be told to wait", SOON, told_to_wait).unwrap();
    let said = device.stderr();
    let code = said.split("enter the code ").nth(1).unwrap();
    let code = code.split_whitespace().next().unwrap();
    let (page, form) = (format!("{ISSUER}/activate"), format!("user_code={code}"));
    let browser = format!("/home/{}/browser.py", person.name());
    let entered = person.run("python3", [browser, page, form]).unwrap();
    entered.success().unwrap();
    assert!(device.wait(SOON).unwrap().success(), "{}", device.stderr());
}

#[test]
fn who_signs_in_by_browser_or_device_is_let_in_by_plain_ssh_under_the_own_name() {
    let company = company();
    let ann = person("ann", "ann@acme.example", &["everybody", "ops"]);
    let ann = company.staff("ann", ann);
    let shown = sign_in(&ann);
    assert!(
        shown.contains("as 00u1ann (name attested)") && shown.contains(company.web.id()),
        "{shown}"
    );
    company.let_in(&ann);
    company.assert_named("ann@acme.example", "00u1ann");
    // H-05: no token reached a file of hers, the audit or a log.
    let token = company.issuer.given().pop().unwrap();
    let signature = token.rsplit('.').next().unwrap();
    let audit = company.audit();
    assert!(!audit.contains(signature) && !company.ca.log().contains(signature));
    let found = ann.run("grep", ["-rl", signature, "."]).unwrap();
    assert_eq!(found.stdout, "");

    let cy = company.staff("cy", person("cy", "cy@acme.example", &[]));
    sign_in_by_device(&company, &cy);
    // B-12: a device's token is bound to no key, so it is the use that is once.
    let said = company.refused_with_newest_token("mallory");
    assert!(said.contains("used before"), "{said}");
    company.let_in(&cy);
    company.assert_named("cy@acme.example", "00u1cy");
}
