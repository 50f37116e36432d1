/** A reference to an existing object: its id, or anything with an id (a construct, a resource, a data source). */
export type Reference = string | { readonly id: string };

/** Returns the id of the referenced object. */
export const idOf = (what: Reference): string => (typeof what === 'string' ? what : what.id);
