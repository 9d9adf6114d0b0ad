//! From a method and a path to a handler, or to the answer that there is none.

use super::*;

#[test]
fn paths_find_their_routes_and_parameters() {
    for (method, target, expected) in [
        ("GET", "/", "home(-)"),
        ("GET", "/?id=1", "home(-)"),
        ("GET", "/users/7", "user(7|-)"),
        ("GET", "/users/me", "me(-)"),
        ("GET", "/users/mee", "user(mee|-)"),
        ("GET", "/users/7/posts/12", "post(12|7)"),
        ("GET", "/files/a", "files(a)"),
        ("GET", "/files/a/b/c.txt", "files(a/b/c.txt)"),
        ("GET", "/files/readme", "readme(-)"),
        ("GET", "http://other/users/7?x=y", "user(7|-)"),
        ("POST", "/users/7", "make(7)"),
        ("PUT", "/users/7", "put(7)"),
        ("DELETE", "/users/7", "delete(7)"),
        ("PATCH", "/users/7", "patch(7)"),
        // HEAD is GET without the content, which is the server's matter.
        ("HEAD", "/users/7", "user(7|-)"),
    ] {
        assert_eq!(
            answer(routes(), method, target),
            (200, expected.into()),
            "{target}"
        );
    }
}

#[test]
fn parameters_are_percent_decoded_once() {
    for (target, expected) in [
        ("/users/a%20b", "user(a b|-)"),
        ("/users/%68i", "user(hi|-)"),
        ("/users/a%2Fb", "user(a/b|-)"),
        ("/users/%2525", "user(%25|-)"),
        ("/users/gr%C3%BC%C3%9F", "user(gr\u{fc}\u{df}|-)"),
        ("/users/%ff", "user(\u{fffd}|-)"),
        ("/users/a+b", "user(a+b|-)"),
        ("/files/%2e%2E/x%2fy/z", "files(../x/y/z)"),
        ("/%75sers/7/posts/%31%32", "post(12|7)"),
    ] {
        assert_eq!(
            answer(routes(), "GET", target),
            (200, expected.into()),
            "{target}"
        );
    }
}

#[test]
fn no_route_is_404() {
    for target in [
        "/nothing",
        "/users",
        "/users/",
        "/users/7/",
        "/files/",
        "/USERS/7",
        "//",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let (status, text) = answer(routes(), method, target);
            assert_eq!(
                (status, &*text),
                (404, "404 Not Found\n"),
                "{method} {target}"
            );
        }
    }
    assert_eq!(answer(App::new(), "GET", "/").0, 404);
}

#[test]
fn another_method_is_405_with_those_there_are() {
    for (method, target, allow) in [
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("PATCH", "/files/a", "GET, HEAD, OPTIONS"),
        ("HEAD", "/form", "POST, OPTIONS"),
        ("GET", "/form", "POST, OPTIONS"),
        ("GET", "/odd", "HEAD, DELETE, OPTIONS, PATCH"),
    ] {
        let app = routes()
            .post("/form", |_| "form")
            .patch("/odd", |_| "odd")
            .delete("/odd", |_| "odd")
            .route(Method::Head, "/odd", |_| "odd");
        let response = call(app, method, target);
        assert_eq!(response.status(), 405, "{method} {target}");
        assert_eq!(fields(&response, "allow"), [allow], "{method} {target}");
        assert_eq!(text(response), "405 Method Not Allowed\n");
    }
}

#[test]
fn options_follow_from_the_routes_unless_one_answers() {
    let all = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";
    for (target, allow) in [("/users/7", all), ("/", "GET, HEAD, OPTIONS"), ("*", all)] {
        let response = call(routes(), "OPTIONS", target);
        assert_eq!(response.status(), 204, "{target}");
        assert_eq!(fields(&response, "allow"), [allow], "{target}");
        assert!(matches!(response.body(), Body::Empty));
    }
    let app = || routes().route(Method::Options, "/cors", |_| "cors");
    assert_eq!(answer(app(), "OPTIONS", "/cors"), (200, "cors".into()));
    assert_eq!(fields(&call(app(), "GET", "/cors"), "allow"), ["OPTIONS"]);
    let everything = App::new()
        .get("/{*all}", |_| "all")
        .fallback(|_| "fallback");
    assert_eq!(call(everything, "OPTIONS", "*").status(), 204);
}

#[test]
fn a_route_for_head_goes_before_one_for_get() {
    let app = App::new()
        .get("/", |_| "get")
        .route(Method::Head, "/", |_| "head");
    assert_eq!(answer(app, "HEAD", "/").1, "head");
}

#[test]
fn the_fallback_answers_what_no_path_has() {
    let app = || routes().fallback(|request: Request| (404, format!("no {}", request.path())));
    for method in ["GET", "POST", "OPTIONS"] {
        assert_eq!(
            answer(app(), method, "/nothing?x"),
            (404, "no /nothing".into())
        );
    }
    assert_eq!(answer(app(), "POST", "/").0, 405);
    let app = App::new().fallback(pooled(|_| "pooled"));
    let later = reply(app, "GET", "/x");
    assert!(matches!(later, Reply::Pooled(_)));
    assert_eq!(text(finish(later)), "pooled");
}

#[test]
fn the_error_hook_gives_a_body_and_the_status_stays() {
    let app = || {
        routes()
            .get("/panic", |_| -> Response { panic!("on purpose") })
            .get("/own", |_| (404, "mine"))
            .on_error(|failure: &Failure| {
                let body = format!("{}: {}", failure.status(), failure.what());
                (200, body)
            })
    };
    let what = [
        ("GET", "/nothing", 404, "404: no such route"),
        ("POST", "/", 405, "405: no such method here"),
        ("GET", "/panic", 500, "500: the handler failed"),
        // A handler's own answer is no failure, whatever its status.
        ("GET", "/own", 404, "mine"),
    ];
    for (method, target, status, body) in what {
        assert_eq!(answer(app(), method, target), (status, body.into()));
    }
    assert_eq!(
        fields(&call(app(), "POST", "/"), "allow"),
        ["GET, HEAD, OPTIONS"]
    );
    let broken = App::new().on_error(|_: &Failure| -> Response { panic!("on purpose") });
    assert_eq!(answer(broken, "GET", "/"), (404, "404 Not Found\n".into()));
    let empty = App::new().on_error(|_: &Failure| ());
    assert_eq!(answer(empty, "GET", "/"), (404, String::new()));
}

#[test]
fn routes_that_make_no_sense_are_reported() {
    let ok = |_| "x";
    for (app, word) in [
        (App::new().get("relative", ok), "starts with '/'"),
        (App::new().get("", ok), "starts with '/'"),
        (App::new().get("*", ok), "starts with '/'"),
        (
            App::new().get("/a", ok).get("/a", ok),
            "GET has a handler already",
        ),
        (App::new().get("/{a}", ok).post("/{b}", ok), "/{b}"),
        (App::new().get("/{*a}", ok).get("/{*b}", ok), "/{*b}"),
        (App::new().get("/{*a}/b", ok), "/{*a}/b"),
        (App::new().get("/{", ok), "/{"),
        (App::new().get("/{}", ok), "/{}"),
    ] {
        let problem = app.check().unwrap_err();
        assert!(problem.contains(word), "{problem}");
    }
    // The first one is told, and the others still work.
    let app = App::new().get("one", ok).get("two", ok).get("/three", ok);
    assert!(app.check().unwrap_err().contains("one"));
    let app = App::new()
        .get("/a", ok)
        .post("/a", ok)
        .get("/a/", ok)
        .get("/a/{b}", ok);
    assert_eq!(app.check(), Ok(()));
}
