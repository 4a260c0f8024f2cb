import { getRouteApi } from "@tanstack/react-router";
import { SignIn } from "./sign-in.tsx";

const route = getRouteApi("/sign-in");

/** SignInPage leads back to where somebody wanted to go, inside this application. */
export function SignInPage() {
	const { next = "", expired } = route.useSearch();
	const inside = /^\/(?![/\\])/.test(next) ? next : "/flags";
	return <SignIn next={inside} expired={expired !== undefined} />;
}
