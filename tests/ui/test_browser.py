"""The browser itself: what a page does wrong is recorded."""


async def test_problems_of_a_page_are_recorded(page, observed):
    await page.goto("data:text/html,<title>sky</title><p id=p>one</p>")
    assert await page.title() == "sky"
    assert observed.problems == []
    await page.set_content(
        "<script>console.error('oops'); undefined_name()</script><img src='http://elsewhere.invalid/x.png'>"
    )
    assert "oops" in observed.console_errors[0]
    assert any("undefined_name" in text for text in observed.console_errors)
    assert observed.external_requests == ["http://elsewhere.invalid/x.png"]


async def test_every_page_is_fresh(page, observed):
    assert page.url == "about:blank"
    assert page.viewport_size == {"width": 1280, "height": 800}
    assert observed.problems == []
