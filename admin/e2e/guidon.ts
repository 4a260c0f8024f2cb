import { randomBytes } from "node:crypto";
import { test as base, expect, type Page } from "@playwright/test";

/** environment variables that say which Guidon to test, and with which admin key. */
const url = needed("GUIDON_E2E_URL");
export const adminKey = needed("GUIDON_E2E_KEY");

export const environments = ["development", "staging", "production"];

interface Fixtures {
	/** flag is the key of a boolean flag of this test's own, on in every environment. */
	flag: string;
	/** tolerated are console errors that a test provokes. */
	tolerated: RegExp[];
	/** watched fails a test on what a page must never do. */
	watched: undefined;
}

export const test = base.extend<Fixtures>({
	flag: async ({ browserName: _ }, use) => {
		const key = `e2e.${randomBytes(6).toString("hex")}`;
		const definition = {
			state: "ENABLED",
			variants: { on: true, off: false },
			defaultVariant: "off",
			targeting: { if: [{ in: [{ var: "country" }, ["DE", "FR"]] }, "on"] },
		};
		await apply(
			environments.map((environment) => ({ putFlag: { environment, key, definition, tags: ["e2e"] } })),
			"A flag for the browser test",
		);
		await use(key);
	},
	tolerated: [[], { option: true }],
	watched: [
		async ({ page, tolerated }, use) => {
			const faults: string[] = [];
			page.on("pageerror", (error) => faults.push(`uncaught: ${error}`));
			page.on("console", (message) => {
				if (message.type() !== "error" || tolerated.some((pattern) => pattern.test(message.text()))) return;
				faults.push(`console: ${message.text()} (${message.location().url})`);
			});
			page.on("request", (request) => {
				if (new URL(request.url()).origin !== new URL(url).origin)
					faults.push(`foreign request: ${request.url()}`);
			});
			// Chromium reports a violation of the policy as a console error.
			await use(undefined);
			expect(faults).toEqual([]);
		},
		{ auto: true },
	],
});

export { expect };

/** apply carries out a change set as somebody else would. */
export async function apply(operations: object[], reason: string): Promise<void> {
	await call("ChangeService/Apply", { operations, reason });
}

/** call makes an API call with the admin key. */
export async function call(method: string, request: object) {
	const answer = await fetch(`${url}/guidon.v1.${method}`, {
		method: "POST",
		headers: { "Content-Type": "application/json", Authorization: `Bearer ${adminKey}` },
		body: JSON.stringify(request),
	});
	if (!answer.ok) throw new Error(`${method}: ${answer.status} ${await answer.text()}`);
	return answer.json();
}

/** signIn goes to a page as somebody who has just pasted the key. */
export async function signIn(page: Page, address = "/admin/"): Promise<void> {
	await page.goto(address);
	await page.getByLabel("API key").fill(adminKey);
	await page.getByRole("button", { name: "Sign in" }).click();
	await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
}

/** switchOf finds the switch of a flag in an environment. */
export function switchOf(page: Page, flag: string, environment: string) {
	return page.getByRole("switch", { name: `${flag} in ${environment}` });
}

/** appliedRevision waits for the server's answer and reads the revision off it. */
export async function appliedRevision(page: Page): Promise<string> {
	const note = page.getByRole("alert").filter({ hasText: "applied at revision" }).last();
	const [, revision = ""] = /applied at revision (\d+)/.exec((await note.textContent()) ?? "") ?? [];
	expect(revision).not.toBe("");
	return revision;
}

function needed(name: string): string {
	const value = process.env[name];
	if (!value) throw new Error(`${name} is not set: the browser test needs a running guidon dev`);
	return value;
}
