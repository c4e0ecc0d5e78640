//! KMS does not let the user-CA key sign any more: one command has the spare sign, no host is touched, and a restart
//! works while the first key is gone. Whoever holds a certificate logs in all the time.

use eic_lab::aws::ACCOUNT;
use eic_lab::{Ca, Host, Lab};

use super::company::{self, PATIENCE, kms_signer, restart, ssh, ssh_anew, wait};
use super::traffic::{Traffic, Worker};

/// What the host's sshd and its commands read, with the moments of their last change.
fn files(host: &Host) -> String {
    let listing = "stat -c '%n %i %y' /var/lib/eic/*; sha256sum /var/lib/eic/*";
    host.exec("sh", ["-c", listing]).unwrap().stdout
}

/// The fingerprint of the key in the list that only may sign.
fn spare(ca: &Ca) -> String {
    let list = ca.run(&["keys", "list"]).unwrap();
    let line = list.lines().find(|line| line.contains("may sign")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_key_that_kms_refuses_is_replaced_by_one_command_and_no_host_is_touched() {
    let lab = Lab::new().unwrap();
    let aws = lab.aws().unwrap();
    let (first, second) = (
        aws.kms_key("ECC_NIST_P256").unwrap(),
        aws.kms_key("ECC_NIST_P384").unwrap(),
    );
    let mut ca = company::ca(&lab)
        .kms_user_ca(&first)
        .unwrap()
        .set("keys.spare_user_cas", vec![kms_signer(&lab, &second)])
        .set("keys.propagation_seconds", 0)
        .start()
        .unwrap();
    let web = eic_lab::small_fleet::enrolled_host(&lab, &ca, "web-1").unwrap();
    let [alice, laptop] = company::machines_of_alice(&lab, &ca, ["alice", "laptop"]);
    ssh(&alice, &web).unwrap();
    let traffic = Traffic::start([Worker::at(&laptop, &[&web])]);
    traffic.goes_on(1);
    let before = files(&web);

    aws.account(ACCOUNT).disable_kms_key(&first).unwrap();
    let refused = ssh_anew(&alice, &web).unwrap_err();
    assert!(refused.contains("eic-login"), "{refused}");
    traffic.goes_on(5);
    ca.run(&["keys", "activate", &spare(&ca), "--reason", "KMS"])
        .unwrap();
    let took = wait("a login by the spare key", PATIENCE, || {
        ssh_anew(&alice, &web).is_ok()
    });
    println!("the spare signs after {:.1} s", took.as_secs_f64());

    aws.account(ACCOUNT).delete_kms_key(&first).unwrap();
    restart(&mut ca);
    ssh_anew(&alice, &web).unwrap();
    traffic.goes_on(5);
    let tally = traffic.end();
    assert!(tally.refused.is_empty(), "{:#?}", tally.refused);
    assert_eq!(files(&web), before, "the host was touched");
    let list = ca.run(&["keys", "list"]).unwrap();
    assert!(list.contains("signs"), "{list}");
}
