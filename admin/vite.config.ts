import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import { compress } from "./build/compress.ts";

const guidon = process.env.GUIDON_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
	base: "/admin/",
	plugins: [react(), compress()],
	build: {
		outDir: "dist/app",
		emptyOutDir: true,
		target: "es2023",
		// A data: URL would need a hole in the Content-Security-Policy.
		assetsInlineLimit: 0,
	},
	server: {
		port: 5173,
		strictPort: true,
		proxy: { "^/guidon\\.v1\\.": guidon },
	},
	test: { include: ["src/**/*.test.ts"] },
});
