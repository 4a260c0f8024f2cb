import {
	createRootRoute,
	createRoute,
	createRouter,
	lazyRouteComponent,
	redirect,
} from "@tanstack/react-router";
import { FlagsPage } from "./flags/page.tsx";
import { apiKey } from "./session/key.ts";
import { Broken, NotFound } from "./shell/broken.tsx";
import { Shell } from "./shell/shell.tsx";

/** Raw is a search as it stands in the address. */
type Raw = Record<string, unknown>;

const root = createRootRoute({ notFoundComponent: NotFound, errorComponent: Broken });

const signIn = createRoute({
	getParentRoute: () => root,
	path: "/sign-in",
	component: lazyRouteComponent(() => import("./session/page.tsx"), "SignInPage"),
	validateSearch: (search: Raw): { next?: string; expired?: string } => ({
		next: text(search.next),
		expired: text(search.expired),
	}),
});

const signedIn = createRoute({
	getParentRoute: () => root,
	id: "signed-in",
	component: Shell,
	beforeLoad: ({ location }) => {
		if (apiKey() === null) throw redirect({ to: "/sign-in", search: { next: location.href } });
	},
});

const home = createRoute({
	getParentRoute: () => root,
	path: "/",
	beforeLoad: () => {
		throw redirect({ to: "/flags" });
	},
});

const flags = createRoute({
	getParentRoute: () => signedIn,
	path: "/flags",
	component: FlagsPage,
	validateSearch: (search: Raw): { q?: string; env?: string } => ({
		q: text(search.q),
		env: text(search.env),
	}),
});

const flag = createRoute({
	getParentRoute: () => signedIn,
	path: "/flags/$key",
	component: lazyRouteComponent(() => import("./flag/page.tsx"), "FlagPage"),
	validateSearch: (search: Raw): { env?: string; revision?: bigint } => ({
		env: text(search.env),
		revision: revision(search.revision),
	}),
});

const audit = createRoute({
	getParentRoute: () => signedIn,
	path: "/audit",
	component: lazyRouteComponent(() => import("./audit/page.tsx"), "AuditPage"),
	validateSearch: (search: Raw): { env?: string; flag?: string; actor?: string; entry?: string } => ({
		env: text(search.env),
		flag: text(search.flag),
		actor: text(search.actor),
		entry: text(search.entry),
	}),
});

export const router = createRouter({
	routeTree: root.addChildren([home, signIn, signedIn.addChildren([flags, flag, audit])]),
	basepath: "/admin",
	defaultPreload: "intent",
	scrollRestoration: true,
	// Plain names and values: addresses are read, typed and sent to others.
	parseSearch: (search) => Object.fromEntries(new URLSearchParams(search)),
	stringifySearch: (search) => {
		const pairs = Object.entries(search).flatMap(([name, value]) =>
			value == null ? [] : [[name, String(value)]],
		);
		return pairs.length === 0 ? "" : `?${new URLSearchParams(pairs)}`;
	},
});

declare module "@tanstack/react-router" {
	interface Register {
		router: typeof router;
	}
}

function text(value: unknown): string | undefined {
	return value === undefined || value === "" ? undefined : String(value);
}

function revision(value: unknown): bigint | undefined {
	return /^[1-9]\d{0,18}$/.test(String(value)) ? BigInt(String(value)) : undefined;
}
