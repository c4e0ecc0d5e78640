//! Names and accounts as plain ssh has them: places, the laptop's user, hosts that are still booting.

use std::process::Output;

use eic_login::config::{Config, Place};
use eic_login::ssh_config::host_users;

use crate::real_ssh::{Scene, program, said};
use crate::stub::{INSTANCE, view};

fn place(scene: &Scene) {
    let paths = &scene.world.paths;
    let prod = Place {
        name: "prod".to_owned(),
        profile: None,
        regions: Vec::new(),
        account: Some("123456789012".parse().unwrap()),
        optional: false,
    };
    let config = Config {
        places: vec![prod],
        ..Config::load(paths).unwrap()
    };
    let text = config.to_toml().unwrap();
    crate::files::write_atomic(&paths.config_file(), text.as_bytes(), 0o600).unwrap();
}

/// A block for names with a place too.
fn cover_places(scene: &Scene) {
    let patterns = ["web-*".to_owned(), "prod/*".to_owned()];
    let run_dir = &scene.world.paths.run_dir;
    let block = eic_login::ssh_config::block::Block::new(program(), run_dir, &patterns).unwrap();
    std::fs::write(scene.world.dir.path().join("ssh_config"), block.render()).unwrap();
}

#[tokio::test]
async fn the_laptops_user_is_refused_in_one_line_that_names_the_command() {
    let scene = Scene::new(Some(INSTANCE)).await;
    scene.world.state().users = vec!["ubuntu".to_owned()];
    let user = scene.user.clone();
    let login = |args: &'static [&'static str]| {
        let user = user.clone();
        scene.run("ssh", args, move |command| {
            command.env("USER", user);
        })
    };
    let refused = login(&["web-1", "echo in"]).await;
    let text = said(&refused);
    assert!(text.contains("type `ssh ubuntu@web-1`"), "{text}");
    let told = text.lines().filter(|line| line.starts_with("eic-login: "));
    assert_eq!(told.count(), 1, "{text}");
    // Who names the account gets it.
    let target = format!("{}@web-1", scene.user);
    let named = scene.ssh(&[&target, "echo in"]).await;
    assert!(said(&named).starts_with("in\n"), "{}", said(&named));
}

#[tokio::test]
async fn the_generated_include_gives_a_known_host_its_account() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let dir = scene.world.dir.path();
    scene.world.state().users = vec!["ubuntu".to_owned()];
    let host = view(INSTANCE, &scene.world.state());
    let config: Config = toml::from_str("patterns = [\"web-*\"]").unwrap();
    std::fs::write(dir.join("eic.hosts"), host_users::render(&[&host], &config)).unwrap();
    let file = dir.join("ssh_config");
    let text = std::fs::read_to_string(&file).unwrap();
    let include = format!("Include {}", dir.join("eic.hosts").display());
    std::fs::write(&file, text.replace("Include eic.hosts", &include)).unwrap();
    let user_of = |output: Output| {
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("user "));
        line.unwrap_or_default().to_owned()
    };
    for (host, user) in [
        ("web-1", "user ubuntu"),
        (INSTANCE, "user ubuntu"),
        ("deploy@web-1", "user deploy"),
    ] {
        assert_eq!(user_of(scene.ssh(&["-G", host]).await), user, "{host}");
    }
    let other = user_of(scene.ssh(&["-G", "github.com"]).await);
    assert_eq!(other, format!("user {}", scene.user));
}

#[tokio::test]
async fn a_name_with_its_place_in_front_opens_the_host() {
    let scene = Scene::new(Some(INSTANCE)).await;
    place(&scene);
    cover_places(&scene);
    let output = scene.ssh(&["prod/web-1", "echo in"]).await;
    assert!(said(&output).starts_with("in\n"), "{}", said(&output));
    // A host of another account is not in that place.
    let file = scene.world.paths.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("123456789012", "210987654321")).unwrap();
    let other = scene.ssh(&["prod/web-2", "echo in"]).await;
    assert!(
        said(&other).contains("no running instance"),
        "{}",
        said(&other)
    );
}

#[tokio::test]
async fn waiting_reaches_an_instance_that_is_still_booting() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let all = std::mem::take(&mut scene.world.state().instances);
    let state = std::sync::Arc::clone(&scene.world.state);
    tokio::spawn(async move {
        // As long as it takes until somebody has asked in vain.
        crate::stub::wait_for(|| !state.lock().unwrap().grants.is_empty()).await;
        state.lock().unwrap().instances = all;
    });
    let mut command = scene.eic(&["ssh", "--wait=30", "-T", "web-1", "echo in"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = said(&output);
    assert!(text.starts_with("in\n"), "{text}");
    assert!(
        text.contains("waiting up to") && text.contains("for web-1"),
        "{text}"
    );
}
