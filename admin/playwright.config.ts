import { defineConfig } from "@playwright/test";

/** The test runs against a Guidon that is already there: see e2e/guidon.ts. */
export default defineConfig({
	testDir: "e2e",
	outputDir: "test-results",
	reporter: [["list"]],
	timeout: 60_000,
	expect: { timeout: 10_000 },
	forbidOnly: true,
	workers: 1,
	use: {
		baseURL: process.env.GUIDON_E2E_URL,
		screenshot: "only-on-failure",
		trace: "retain-on-failure",
		launchOptions: {
			executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
			args: [
				"--headless",
				"--no-sandbox",
				"--disable-gpu",
				"--disable-quic",
				"--no-first-run",
				"--disable-background-networking",
				"--disable-component-update",
				"--disable-sync",
			],
		},
	},
});
