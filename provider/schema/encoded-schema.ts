/**
 * The answer to `GetProviderSchema` in base64. Sources have none, since what they describe may change at any time: the
 * build puts it here (`build.ts`).
 */
export const encodedSchema: string | undefined = undefined;
