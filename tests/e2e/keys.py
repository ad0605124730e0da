"""A person who has no mouse."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect


class Keys:
    """A person at the keyboard: what is wanted is reached by Tab, and the focus is seen all the way."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def __call__(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def write(self, text: str) -> None:
        """In the place of what stands in the field."""
        self("Control+a")
        self.page.keyboard.type(text)

    def reach(self, wanted: Locator, *, back: bool = False) -> None:
        """Tab to it, back with Shift."""
        expect(wanted).to_be_visible(timeout=60_000)
        element = wanted.element_handle()
        for _ in range(150):
            self("Shift+Tab" if back else "Tab")
            if self.page.evaluate("el => el === document.activeElement", element):
                assert self.seen(), f"the focus is not seen on {wanted}"
                return
        raise AssertionError(f"Tab never came to {wanted}")

    def seen(self) -> bool:
        """Whether what has the focus, or what stands for it, looks otherwise than without."""
        return bool(
            self.page.evaluate(
                """() => {
                    const at = document.activeElement;
                    const near = [at, at.parentElement, ...at.children, at.nextElementSibling].filter(Boolean);
                    const look = () => near.map((el) => {
                        const { outline, boxShadow, borderColor, stroke } = getComputedStyle(el);
                        return [outline, boxShadow, borderColor, stroke].join();
                    }).join();
                    const focused = look();
                    at.blur();
                    const without = look();
                    at.focus({ focusVisible: true });
                    return focused !== without;
                }"""
            )
        )
