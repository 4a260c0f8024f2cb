import { AxeBuilder } from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { expect, signIn, test } from "./guidon.ts";

/** wcag names the rules of WCAG 2.2, levels A and AA. */
const wcag = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

const pages: Record<string, (flag: string) => [string, RegExp]> = {
	flags: (flag) => [`/admin/flags?q=${flag}`, /Flags/],
	"flags of production": (flag) => [`/admin/flags?env=production&q=${flag}`, /Flags/],
	"flags that nothing matches": () => ["/admin/flags?q=colour:blue", /No flag matches/],
	flag: (flag) => [`/admin/flags/${flag}`, new RegExp(flag)],
	"flag in production": (flag) => [`/admin/flags/${flag}?env=production`, /Targeting/],
	"flag that is not there": () => ["/admin/flags/no-such-flag", /No flag/],
	audit: (flag) => [`/admin/audit?flag=${flag}`, /Audit/],
};

// Contrast hangs on the scheme and layout on the device: two runs see both of each.
const looks = [
	{ colorScheme: "light", viewport: { width: 1440, height: 900 } },
	{ colorScheme: "dark", viewport: { width: 360, height: 780 } },
] as const;

for (const look of looks) {
	test.describe(`${look.colorScheme}, ${look.viewport.width} px`, () => {
		test.use(look);

		test("pages are accessible and fit", async ({ page, flag }, testInfo) => {
			await page.goto("/admin/");
			await expect(page.getByRole("heading", { name: "Guidon" })).toBeVisible();
			await page.getByLabel("API key").fill("gdn_admin_something");
			await check(page, testInfo.outputPath("sign-in.png"));
			await signIn(page);
			for (const [name, of] of Object.entries(pages)) {
				const [address, heading] = of(flag);
				await page.goto(address);
				await expect(page.getByRole("heading", { name: heading }).first()).toBeVisible();
				await check(page, testInfo.outputPath(`${name}.png`));
			}
			await page.getByRole("row", { name: flag }).first().getByRole("button").click();
			await expect(page.getByRole("table", { name: `What changed in ${flag}` })).toBeVisible();
			await check(page, testInfo.outputPath("audit entry.png"));
		});

		test("dialogs are accessible", async ({ page, flag }, testInfo) => {
			await signIn(page, `/admin/flags?env=production&q=${flag}`);
			await page.getByRole("switch").click();
			await page.getByLabel("Reason").fill("To see the button that it enables");
			await check(page, testInfo.outputPath("reason.png"));
			await page.keyboard.press("Escape");
			await page.keyboard.press("?");
			await expect(page.getByRole("dialog", { name: "Keyboard and search" })).toBeVisible();
			await check(page, testInfo.outputPath("help.png"));
			await page.keyboard.press("Escape");
			await page.keyboard.press("Control+k");
			await expect(page.getByLabel("Find a flag or a page")).toBeFocused();
			await check(page, testInfo.outputPath("palette.png"));
		});
	});
}

/** check holds a page to WCAG 2.2 AA and to the width of the window. */
async function check(page: Page, screenshot: string): Promise<void> {
	// A page that fades in has colours that nobody is meant to read.
	await page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished)));
	const { violations } = await new AxeBuilder({ page }).withTags(wcag).analyze();
	const found = violations.flatMap(({ id, nodes }) =>
		nodes.map(({ target, failureSummary }) => ({ id, target, failureSummary })),
	);
	expect(found, page.url()).toEqual([]);
	const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
	expect(wider, `${page.url()} is wider than the window`).toBeLessThanOrEqual(0);
	await page.screenshot({ path: screenshot, fullPage: true });
}
