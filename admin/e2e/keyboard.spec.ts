import { adminKey, appliedRevision, expect, switchOf, test } from "./guidon.ts";

test("everything works without a mouse", async ({ page, flag }) => {
	const { keyboard } = page;
	await page.goto("/admin/");
	await expect(page.getByLabel("API key")).toBeFocused();
	await keyboard.type(adminKey);
	await keyboard.press("Enter");
	await expect(page.getByRole("heading", { name: "Flags" })).toBeVisible();

	await test.step("search, go to the row, switch, undo", async () => {
		await keyboard.press("/");
		await expect(page.getByLabel("Search flags")).toBeFocused();
		await keyboard.type(flag);
		await expect(page.getByRole("row", { name: flag })).toBeVisible();
		await keyboard.press("Escape");
		await keyboard.press("j");
		await expect(page.getByRole("link", { name: flag, exact: true })).toBeFocused();
		await keyboard.press("Tab");
		await expect(switchOf(page, flag, "development")).toBeFocused();
		await keyboard.press("Space");
		await appliedRevision(page);
		await expect(switchOf(page, flag, "development")).toBeFocused();
		await keyboard.press("u");
		await expect(switchOf(page, flag, "development")).toBeChecked();
	});

	await test.step("open the help and close it", async () => {
		await keyboard.press("?");
		await expect(page.getByRole("dialog", { name: "Keyboard and search" })).toBeVisible();
		await keyboard.press("Escape");
		await expect(page.getByRole("dialog")).toBeHidden();
	});

	await test.step("go to the flag by the palette", async () => {
		await keyboard.press("Control+k");
		await expect(page.getByLabel("Find a flag or a page")).toBeFocused();
		await keyboard.type(flag);
		await expect(page.getByRole("dialog").getByText(flag)).toBeVisible();
		await keyboard.press("Enter");
		await expect(page.getByRole("heading", { name: flag })).toBeVisible();
	});

	await test.step("change the environment by the arrow keys", async () => {
		await page.getByRole("tab", { name: "All environments" }).focus();
		await keyboard.press("ArrowRight");
		await expect(page).toHaveURL(/env=development/);
		await expect(page.getByText("country is one of “DE”, “FR”")).toBeVisible();
	});

	await test.step("give the reason in production", async () => {
		await page.goto(`/admin/flags/${flag}?env=production`);
		await switchOf(page, flag, "production").focus();
		await keyboard.press("Space");
		await expect(page.getByLabel("Reason")).toBeFocused();
		await keyboard.type("By keyboard");
		await keyboard.press("Control+Enter");
		await appliedRevision(page);
		await expect(page.getByRole("dialog")).toBeHidden();
		await expect(switchOf(page, flag, "production")).not.toBeChecked();
	});
});
