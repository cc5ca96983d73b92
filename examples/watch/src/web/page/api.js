// Requests to the server.

/** Sends a request; a refusal is an `Error` with the server's sentence. */
async function request(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("no connection to the server");
  }
  const content = response.headers.get("Content-Type") ?? "";
  const value = content.startsWith("application/json") ? await response.json() : await response.text();
  if (!response.ok) throw new Error(value.error ?? `${response.status} ${response.statusText}`);
  return value;
}

const camera = (id) => `/api/cameras/${encodeURIComponent(id)}`;

export const events = (query) => request("GET", `/api/events?${new URLSearchParams(query)}`);
export const accept = (id) => request("POST", `/api/events/${id}/accept`);
export const clipOf = ({ id }) => `/api/events/${id}/clip`;
/** Another address for every peak: the image of an open event changes. */
export const thumbnailOf = ({ id, peak_time }) => `/api/events/${id}/thumbnail?peak=${peak_time}`;
export const masks = (id) => request("GET", `${camera(id)}/masks`);
export const setMasks = (id, masks) => request("PUT", `${camera(id)}/masks`, masks);
export const settings = (id) => request("GET", `${camera(id)}/settings`);
export const setSettings = (id, values) => request("PATCH", `${camera(id)}/settings`, values);
