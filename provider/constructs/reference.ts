/** How constructs take what exists already: anything that has an id (a construct, a resource, a data source), or the id. */
export type Reference = string | { readonly id: string };

export const idOf = (what: Reference): string => (typeof what === 'string' ? what : what.id);
