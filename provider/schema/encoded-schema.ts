/**
 * The answer to `GetProviderSchema` in base64. Only the build (`build.ts`) sets it, because the sources may change at any
 * time. Undefined in a provider that runs from its sources.
 */
export const encodedSchema: string | undefined = undefined;
