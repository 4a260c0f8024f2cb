import { adminKey, appliedRevision, apply, call, expect, signIn, switchOf, test } from "./guidon.ts";

test("a switch is applied at a revision, and the audit log has it", async ({ page, flag }) => {
	await signIn(page, `/admin/flags?q=${flag}`);
	await expect(page).toHaveURL(new RegExp(`q=${flag}`));
	const development = switchOf(page, flag, "development");
	await expect(development).toBeChecked();
	await development.click();
	const revision = await appliedRevision(page);
	await expect(development).not.toBeChecked();
	await expect(page.getByRole("row", { name: flag })).toContainText(`applied at revision ${revision}`);
	await expect(switchOf(page, flag, "staging")).toBeChecked();

	await page.goto(`/admin/audit?env=development&flag=${flag}`);
	const entry = page.getByRole("row", { name: `revision ${revision}` });
	await expect(entry).toContainText(`changed ${flag}`);
	await entry.getByRole("button").click();
	const detail = page.getByRole("table", { name: `What changed in ${flag}` });
	await expect(detail.getByRole("row", { name: "state" })).toContainText(/ENABLED.*DISABLED/s);

	await expect(page).toHaveURL(/entry=development/);
	await page.reload();
	await expect(detail).toBeVisible();
});

test("a protected environment asks for the reason, and the log keeps it", async ({ page, flag }) => {
	await signIn(page, `/admin/flags?q=${flag}`);
	await page
		.getByRole("navigation", { name: "Environment" })
		.getByRole("link", { name: "production" })
		.click();
	await expect(page).toHaveURL(new RegExp(`\\?q=${flag}&env=production$`));
	await expect(page.getByRole("note", { name: "production is protected" })).toBeVisible();
	const production = switchOf(page, flag, "production");
	await production.click();
	const dialog = page.getByRole("dialog", { name: `Switch ${flag} off` });
	await expect(dialog.getByLabel("Reason")).toBeFocused();
	await expect(dialog.getByRole("button", { name: "Switch off" })).toBeDisabled();
	await expect(production).toBeChecked();

	await dialog.getByLabel("Reason").fill("Prices are wrong");
	await dialog.getByRole("button", { name: "Switch off" }).click();
	const revision = await appliedRevision(page);
	await expect(dialog).toBeHidden();
	await expect(production).not.toBeChecked();

	await page.getByRole("link", { name: flag, exact: true }).click();
	const version = page.getByRole("listitem").filter({ hasText: `revision ${revision}` });
	await expect(version).toContainText("Prices are wrong");
});

test("off asks what it reaches: everything under way is a kill, until it is lifted", async ({
	page,
	flag,
}) => {
	await signIn(page, `/admin/flags/${flag}?env=development`);
	await page.getByRole("button", { name: "Switch off…" }).click();
	const dialog = page.getByRole("dialog", { name: `Switch ${flag} off` });
	await expect(dialog.getByRole("button", { name: "Switch off" })).toBeEnabled();
	await dialog.getByLabel("Reaches").selectOption("off");
	await expect(dialog).toContainText("those under way and queued messages too");
	await expect(dialog.getByRole("button", { name: "Kill" })).toBeDisabled();
	await dialog.getByLabel("Reason").fill("Prices are wrong");
	await dialog.getByRole("button", { name: "Kill" }).click();
	const revision = await appliedRevision(page);
	await expect(dialog).toBeHidden();
	await expect(page.getByText(`Killed at revision ${revision}`)).toContainText("every request gets “off”");
	const read = { environment: "development", key: flag };
	expect((await call("FlagService/Get", read)).flag.killed.variant).toBe("off");
	const version = page.getByRole("listitem").filter({ hasText: `revision ${revision}` });
	await expect(version).toContainText("killed: off");

	await page.getByRole("button", { name: "Unkill" }).click();
	await expect(page.getByText("Killed at revision")).toBeHidden();
	await expect(page.getByRole("button", { name: "Switch off…" })).toBeVisible();
	expect((await call("FlagService/Get", read)).flag.killed).toBeUndefined();
	await expect(page.getByRole("listitem").filter({ hasText: "unkilled" })).toBeVisible();
	await page.goto(`/admin/audit?flag=${flag}`);
	await expect(page.getByRole("row").filter({ hasText: "Prices are wrong" })).toContainText(`killed ${flag}`);
});

test("undo takes a switch back, and says so in the log", async ({ page, flag }) => {
	await signIn(page, `/admin/flags?q=${flag}`);
	const development = switchOf(page, flag, "development");
	await development.click();
	const revision = await appliedRevision(page);
	await page.getByRole("button", { name: "Undo" }).click();
	await expect(development).toBeChecked();
	await page.goto(`/admin/audit?flag=${flag}`);
	await expect(page.getByText(`Undo of revision ${revision}`)).toBeVisible();
});

test("a change by somebody else appears by itself", async ({ page, flag }) => {
	await signIn(page, `/admin/flags?q=${flag}`);
	await expect(switchOf(page, flag, "staging")).toBeChecked();
	await apply([{ setState: { environment: "staging", key: flag, state: "DISABLED" } }], "Somebody else");
	await expect(switchOf(page, flag, "staging")).not.toBeChecked();
});

test.describe("with faults", () => {
	test.use({ tolerated: [/Failed to load resource/] });

	test("a conflict shows what changed meanwhile, and overwrites nothing", async ({ page, flag }) => {
		await signIn(page, `/admin/flags?q=${flag}`);
		const development = switchOf(page, flag, "development");
		await expect(development).toBeChecked();
		// The page stops hearing of changes, as in a tab that slept.
		const stale = await page.waitForResponse(/EnvironmentService\/List$/);
		const body = await stale.body();
		await page.route(/EnvironmentService\/List$/, (route) =>
			route.fulfill({ contentType: "application/json", body }),
		);
		const definition = { state: "ENABLED", variants: { on: true, off: false }, defaultVariant: "on" };
		await apply([{ putFlag: { environment: "development", key: flag, definition } }], "On for everyone");

		await development.click();
		const dialog = page.getByRole("dialog");
		await expect(dialog).toContainText("Nothing was applied: development changed meanwhile");
		await expect(dialog).toContainText(`flag ${flag} changed`);
		await page.unroute(/EnvironmentService\/List$/);
		await dialog.getByRole("button", { name: /Switch off at revision \d+/ }).click();
		await appliedRevision(page);
		await expect(development).not.toBeChecked();
	});

	test("a server that is away loses neither the page nor the reason", async ({ page, flag }) => {
		await signIn(page, `/admin/flags?q=${flag}&env=production`);
		await switchOf(page, flag, "production").click();
		const dialog = page.getByRole("dialog");
		await page.route("**/guidon.v1.*/**", (route) => route.abort("connectionrefused"));
		await dialog.getByLabel("Reason").fill("Prices are wrong");
		await dialog.getByRole("button", { name: "Switch off" }).click();
		await expect(dialog.getByRole("alert")).toContainText("Guidon does not answer");
		await expect(dialog.getByLabel("Reason")).toHaveValue("Prices are wrong");
		await expect(page.getByText(/server away: as of/)).toBeVisible();
		await page.unroute("**/guidon.v1.*/**");
		await dialog.getByRole("button", { name: "Try again" }).click();
		await appliedRevision(page);
		await expect(page.getByText(/^live$/)).toBeVisible();
	});

	test("a key that is revoked leads to sign-in, and back to the page", async ({ page, flag }) => {
		const { key, text } = await call("KeyService/Create", { kind: "admin", name: `browser test of ${flag}` });
		await page.goto(`/admin/flags/${flag}?env=staging`);
		await page.getByLabel("API key").fill(text);
		await page.getByRole("button", { name: "Sign in" }).click();
		await expect(switchOf(page, flag, "staging")).toBeChecked();
		await call("KeyService/Revoke", { id: key.id });
		await expect(page.getByText("Guidon no longer accepts the key of this tab")).toBeVisible();
		await page.getByLabel("API key").fill(adminKey);
		await page.getByRole("button", { name: "Sign in" }).click();
		await expect(page).toHaveURL(new RegExp(`/admin/flags/${flag}\\?env=staging$`));
		await expect(switchOf(page, flag, "staging")).toBeChecked();
	});

	test("a key of a server is refused with the cause", async ({ page, flag }) => {
		const request = { kind: "server", environment: "development", name: `browser test of ${flag}` };
		const { text } = await call("KeyService/Create", request);
		await page.goto("/admin/");
		await page.getByLabel("API key").fill(text);
		await page.getByRole("button", { name: "Sign in" }).click();
		await expect(page.getByRole("alert")).toContainText("This key may not use the admin UI");
	});

	test("a key that is wrong is refused with the cause", async ({ page }) => {
		await page.goto("/admin/flags");
		await page.getByLabel("API key").fill("hunter2");
		await expect(page.getByText("An API key starts with gdn_")).toBeVisible();
		await page.getByLabel("API key").fill(`${adminKey.slice(0, -4)}zzzz`);
		await page.getByRole("button", { name: "Sign in" }).click();
		await expect(page.getByRole("alert")).toContainText("Guidon does not accept this key");
		await expect(page.getByLabel("API key")).toHaveValue(/zzzz$/);
	});
});
