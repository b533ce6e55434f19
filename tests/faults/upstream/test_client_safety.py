"""C4, C5, C12: where a request may go and what goes with it: redirects, credentials, TLS. Canaries stay untouched."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from registry.errors import UpstreamUnavailable
from registry.upstream.client import Found
from registry.upstream.guard import AddressPolicy
from tests.fakes.upstream import Fault
from tests.faults.upstream.asking import DOCUMENT, JSON, ROOMY, connection, download, get, limits_for


class TestRedirects:
    def test_five_are_followed_and_the_last_url_is_told(self, upstream, make_client) -> None:
        for number, status in enumerate((301, 302, 303, 307, 308)):
            upstream.redirect(f"/{number}", f"{number + 1}", status=status)
        upstream.serve("/5", DOCUMENT, content_type=JSON)
        answer = get(make_client(), connection(upstream), "0")
        assert isinstance(answer, Found)
        assert answer.final_url == f"{upstream.url}/5"

    def test_six_are_not(self, upstream, make_client) -> None:
        for number in range(6):
            upstream.redirect(f"/{number}", f"/{number + 1}")
        upstream.serve("/6", DOCUMENT, content_type=JSON)
        with pytest.raises(UpstreamUnavailable, match="redirects more than 5"):
            get(make_client(), connection(upstream), "0")
        assert upstream.count("/6") == 0

    def test_a_loop_ends(self, upstream, make_client) -> None:
        url = upstream.redirect("/a", "/a")
        client = make_client()
        with pytest.raises(UpstreamUnavailable):
            get(client, connection(upstream), "a")
        with pytest.raises(UpstreamUnavailable):
            download(client, connection(upstream), url)
        assert upstream.count("/a") == 12

    @pytest.mark.parametrize(
        "location",
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://metadata.google.internal:{port}/canary",
            "http://10.0.0.1/",
            "http://[::1]:{port}/canary",
            "http://inside.test:{port}/canary",
            "http://localhost.:{port}/canary",
            "http://user:password@127.0.0.1:{port}/canary",
            "http://127.1:{port}/canary",
            "http://2130706433:{port}/canary",
            "//0x7f000001:{port}/canary",
            "http://127.0.0.1:25/",
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "http:\\\\127.0.0.1:{port}\\canary",
            "http://[broken/",
            "",
        ],
    )
    def test_refused_targets(self, upstream, other, make_client, location: str) -> None:
        other.serve("/canary", DOCUMENT, content_type=JSON)
        upstream.redirect("/a", location.format(port=other.port))
        with pytest.raises(UpstreamUnavailable):
            get(make_client(), connection(upstream), "a")
        assert other.requests == []

    def test_a_port_of_another_service_is_not_dialled(self, upstream, make_client, caplog) -> None:
        upstream.redirect("/a", "http://127.0.0.1:25/")
        with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
            get(make_client(), connection(upstream), "a")
        assert "port 25 is not for the web" in caplog.text

    def test_negative_control_an_allowed_target_is_reached(self, upstream, other, make_client) -> None:
        other.serve("/canary", DOCUMENT, content_type=JSON)
        upstream.redirect("/a", f"//files.test:{other.port}/canary")
        assert isinstance(get(make_client(), connection(upstream), "a"), Found)
        assert other.count("/canary") == 1

    def test_location_bytes_reach_the_next_server_as_they_came(self, upstream, make_client) -> None:
        upstream.redirect("/a", "/ü%C3%BC".encode().decode("latin-1"))
        upstream.serve("/%C3%BC%C3%BC", DOCUMENT, content_type=JSON)
        assert isinstance(get(make_client(), connection(upstream), "a"), Found)

    def test_files_named_by_a_document_are_vetted_too(self, upstream, make_client) -> None:
        client = make_client()
        for url in ("file:///etc/passwd", "http://10.0.0.1/f", "http://169.254.169.254/", "http://inside.test/f"):
            with pytest.raises(UpstreamUnavailable):
                client.open_file(connection(upstream), url)


class TestCredentials:
    SECRET = ("robot", "s3cr3t-p4ss")
    HEADER = "Basic cm9ib3Q6czNjcjN0LXA0c3M="

    def test_sent_to_the_configured_origin(self, upstream, make_client) -> None:
        url = upstream.serve("/f", b"x")
        client, to = make_client(), connection(upstream, credential=self.SECRET)
        get(client, to, "a")
        download(client, to, url)
        assert [seen.headers["authorization"] for seen in upstream.requests] == [self.HEADER] * 2

    @pytest.mark.parametrize("host", ["127.0.0.1", "files.test", "127.0.0.2"])
    def test_not_to_where_a_redirect_leads(self, upstream, other, make_client, host: str) -> None:
        other.serve("/b", DOCUMENT, content_type=JSON)
        to = connection(upstream, credential=self.SECRET)
        upstream.redirect("/a", f"http://{host}:{other.port}/b")
        client = make_client()
        try:
            get(client, to, "a", etag='"1"', last_modified="yesterday")
        except UpstreamUnavailable:
            assert host == "127.0.0.2"  # nobody listens there
        assert upstream.requests[0].headers["authorization"] == self.HEADER  # the control: it was there to be leaked
        for seen in other.requests:
            assert set(seen.headers) == {"accept", "accept-encoding", "host", "user-agent"}

    def test_not_to_the_same_server_by_another_name(self, upstream, make_client) -> None:
        url = upstream.serve("/f", b"x").replace("127.0.0.1", "index.test")
        download(make_client(), connection(upstream, credential=self.SECRET), url)
        assert "authorization" not in upstream.requests[0].headers

    def test_not_to_another_origin_and_back_again_by_a_redirect(self, upstream, other, make_client) -> None:
        other.redirect("/b", f"{upstream.url}/c")
        upstream.redirect("/a", f"{other.url}/b")
        upstream.serve("/c", DOCUMENT, content_type=JSON)
        get(make_client(), connection(upstream, credential=self.SECRET), "a")
        assert "authorization" not in other.requests[0].headers

    def test_a_challenge_is_not_answered(self, upstream, other, make_client) -> None:
        challenge = {"WWW-Authenticate": f'Bearer realm="{other.url}/token",service="x"'}
        upstream.serve("/a", b"", status=401, headers=challenge)
        with pytest.raises(UpstreamUnavailable):
            get(make_client(), connection(upstream, credential=self.SECRET), "a")
        assert other.requests == []

    def test_two_upstreams_on_one_host_keep_theirs(self, upstream, make_client) -> None:
        client = make_client()
        first = connection(upstream, credential=("a", "1"))
        second = replace(first, id=2, credential=("b", "2"))
        third = replace(first, id=3, credential=None)
        for to in (first, second, third) * 2:
            get(client, to, "x")
        sent = [seen.headers.get("authorization") for seen in upstream.requests]
        assert sent == ["Basic YTox", "Basic Yjoy", None] * 2

    def test_nothing_from_the_environment(self, upstream, other, make_client, monkeypatch, tmp_path) -> None:
        (tmp_path / ".netrc").write_text(
            "machine 127.0.0.1 login netrc password leak\ndefault login netrc password leak\n"
        )
        (tmp_path / ".netrc").chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, other.url)
        upstream.serve("/a", DOCUMENT, content_type=JSON, headers={"Set-Cookie": "session=1; Path=/"})
        client = make_client()
        get(client, connection(upstream), "a")
        get(client, connection(upstream), "a")
        assert other.requests == []
        assert all({"authorization", "cookie"}.isdisjoint(seen.headers) for seen in upstream.requests)

    def test_never_in_messages_logs_or_reprs(self, upstream, make_client, caplog) -> None:
        caplog.set_level(logging.DEBUG)
        to = connection(upstream, credential=self.SECRET)
        client = make_client()
        upstream.serve("/a", b"", status=500)
        upstream.redirect("/b", "http://10.0.0.1/x?signature=s3cr3t-p4ss")
        messages = [repr(to)]
        for path in ("a?key=s3cr3t-p4ss", "b", "http://10.0.0.1/?key=s3cr3t-p4ss", "http://u:s3cr3t-p4ss@x/"):
            with pytest.raises(UpstreamUnavailable) as caught:
                get(client, to, path)
            messages.append(str(caught.value))
        messages.append(caplog.text)
        assert len(caplog.records) >= 4
        assert not any("s3cr3t" in message or self.HEADER in message for message in messages)

    def test_a_base_url_with_a_password_in_it_is_refused(self, upstream, make_client) -> None:
        to = replace(connection(upstream), base_url=upstream.url.replace("//", "//u:s3cr3t@"))
        with pytest.raises(UpstreamUnavailable) as caught:
            get(make_client(), to, "a")
        assert "s3cr3t" not in str(caught.value)

    def test_an_edited_connection_starts_anew(self, upstream, make_client) -> None:
        client = make_client()
        upstream.serve("/a", DOCUMENT, content_type=JSON)
        assert isinstance(get(client, connection(upstream), "a"), Found)
        with pytest.raises(UpstreamUnavailable):
            get(client, replace(connection(upstream), policy=AddressPolicy()), "a")
        assert upstream.count("/a") == 1


class TestTls:
    def test_the_name_is_checked_though_an_address_is_dialled(self, secure, make_client) -> None:
        server, to = secure("index.test")
        server.serve("/a", DOCUMENT, content_type=JSON)
        url = server.serve("/f", b"x" * 300_000).replace("127.0.0.1", "index.test")
        client = make_client()
        assert isinstance(get(client, to, "a"), Found)
        assert download(client, to, url) == b"x" * 300_000
        assert len({seen.connection for seen in server.requests}) == 1
        assert server.requests[0].headers["host"] == f"index.test:{server.port}"

    @pytest.mark.parametrize("expired", [True, False])
    def test_expired_or_for_another_name(self, secure, make_client, expired: bool) -> None:
        server, to = secure("index.test" if expired else "else.test", expired=expired)
        with pytest.raises(UpstreamUnavailable, match="certificate"):
            get(make_client(), to, "a")
        assert server.requests == []

    def test_unknown_issuer(self, secure, make_client) -> None:
        server, to = secure("index.test")
        with pytest.raises(UpstreamUnavailable, match="certificate"):
            get(make_client(), replace(to, ca_bundle=None), "a")
        assert server.requests == []

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"])
    def test_the_machines_bundle_is_used(self, secure, make_client, monkeypatch, variable: str) -> None:
        server, to = secure("index.test")
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(variable, str(to.ca_bundle))
        server.serve("/a", DOCUMENT, content_type=JSON)
        assert isinstance(get(make_client(), replace(to, ca_bundle=None), "a"), Found)

    def test_an_unreadable_bundle(self, secure, make_client) -> None:
        _, to = secure("index.test")
        with pytest.raises(UpstreamUnavailable, match="bundle"):
            get(make_client(), replace(to, ca_bundle="/nonexistent"), "a")

    def test_no_way_down_to_plain_http(self, secure, upstream, make_client) -> None:
        server, to = secure("index.test")
        upstream.serve("/canary", DOCUMENT, content_type=JSON)
        server.redirect("/a", f"{upstream.url}/canary")
        client = make_client()
        with pytest.raises(UpstreamUnavailable, match="https to http"):
            get(client, to, "a")
        with pytest.raises(UpstreamUnavailable):
            client.open_file(to, f"{upstream.url}/canary")
        assert upstream.requests == []

    def test_not_even_for_a_connection_configured_with_plain_http(self, secure, upstream, make_client) -> None:
        server, to = secure("index.test")
        upstream.serve("/canary", DOCUMENT, content_type=JSON)
        upstream.redirect("/a", f"https://index.test:{server.port}/b")
        server.redirect("/b", f"{upstream.url}/canary")
        with pytest.raises(UpstreamUnavailable, match="https to http"):
            get(make_client(), replace(connection(upstream), ca_bundle=to.ca_bundle), "a")
        assert upstream.count("/canary") == 0

    @pytest.mark.parametrize(
        "fault", [Fault.CUT, Fault.RESET_HALF, Fault.SLOW_HEAD, Fault.SLOW_BODY, Fault.TOO_LONG, Fault.CUT_CHUNKS]
    )
    def test_faults_behind_tls(self, secure, make_client, fault: Fault) -> None:
        server, to = secure("index.test")
        server.serve("/bad", DOCUMENT, content_type=JSON, fault=fault)
        with pytest.raises(UpstreamUnavailable):
            get(make_client(limits_for(fault)), to, "bad")

    def test_a_server_that_does_not_speak_tls(self, upstream, make_client) -> None:
        to = replace(connection(upstream), base_url=upstream.url.replace("http:", "https:"))
        with pytest.raises(UpstreamUnavailable):
            get(make_client(replace(ROOMY, connect_seconds=1)), to, "a")
