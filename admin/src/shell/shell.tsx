import { useHotkeys } from "@mantine/hooks";
import { Link, Outlet } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { SwitchingProvider } from "../change/switching.tsx";
import { Icon } from "../theme/icon.tsx";
import { Commands } from "./commands.tsx";
import { LiveStatus } from "./live.tsx";
import { Mark } from "./mark.tsx";
import css from "./shell.module.css";

const Help = lazy(async () => ({ default: (await import("./help.tsx")).Help }));
const Palette = lazy(async () => ({ default: (await import("./palette.tsx")).Palette }));

/** Shell is what stands around every page of somebody who is signed in. */
export function Shell() {
	const [helping, setHelping] = useState(false);
	const [finding, setFinding] = useState(false);
	useHotkeys([["mod+K", () => setFinding((open) => !open)]], []);
	useHotkeys([["?", () => setHelping(true)]]);
	return (
		<SwitchingProvider>
			<a href="#main" className={css.skip}>
				Skip to the content
			</a>
			<header className={css.header}>
				<Link to="/flags" className={css.brand} aria-label="Guidon, flags">
					<Mark />
					<span>Guidon</span>
				</Link>
				<nav className={css.nav} aria-label="Pages">
					<Link to="/flags" className={css.tab} activeProps={{ "aria-current": "page" }}>
						Flags
					</Link>
					<Link to="/audit" className={css.tab} activeProps={{ "aria-current": "page" }}>
						Audit
					</Link>
				</nav>
				<LiveStatus />
				<FindButton onClick={() => setFinding(true)} />
				<Commands onHelp={() => setHelping(true)} />
			</header>
			<main id="main" tabIndex={-1} className={css.main}>
				<Outlet />
			</main>
			<Suspense>
				{finding && <Palette onClose={() => setFinding(false)} />}
				{helping && <Help onClose={() => setHelping(false)} />}
			</Suspense>
		</SwitchingProvider>
	);
}

function FindButton({ onClick }: { onClick: () => void }) {
	return (
		<button type="button" className={css.find} onClick={onClick} aria-keyshortcuts="Control+K Meta+K">
			<Icon name="search" />
			<span className={css.findText}>Find</span>
			<kbd>{/Mac/.test(navigator.platform) ? "⌘K" : "Ctrl K"}</kbd>
		</button>
	);
}
