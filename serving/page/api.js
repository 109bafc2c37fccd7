// Requests to the HTTP API beside the page, below the path that only this page knows.

export class ApiError extends Error {
  constructor(status, content) {
    super(content.error);
    this.status = status;
    this.images = content.images ?? [];
  }
}

async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError(0, { error: "the studio does not answer; start it again in its terminal." });
  }
  if (!response.ok) {
    const fallback = { error: `the studio answered ${response.status}.` };
    throw new ApiError(response.status, await response.json().catch(() => fallback));
  }
  return response;
}

const json = (method, content) => ({
  method,
  headers: { "content-type": "application/json" },
  body: JSON.stringify(content),
});

function form(fields, files) {
  const data = new FormData();
  Object.entries(fields).forEach(([name, value]) => data.append(name, value));
  files.forEach((file) => data.append("images", file, file.name));
  return { method: "POST", body: data };
}

export const place = (id, rest = "") => `v1/adaptations/${id}${rest}`;
export const models = async () => (await send("v1/models")).json();
export const adaptations = async () => (await send("v1/adaptations")).json();
export const picture = async (model, file) =>
  (await send("v1/pictures", form({ model, whole: true }, [file]))).blob();
export const adapt = async (fields, files) =>
  (await send("v1/adaptations", form(fields, files))).json();
export const stop = (id) => send(place(id, "/stop"), { method: "POST" });
export const remove = (id) => send(place(id), { method: "DELETE" });
export const draw = (id, settings) => send(place(id, "/samples"), json("POST", settings));
export const pair = async (id, number) => (await send(place(id, `/pairs/${number}`))).json();
export const choose = async (id, choice) =>
  (await send(place(id, "/choices"), json("POST", choice))).json();
export const prefer = async (id) =>
  (await send(place(id, "/preferences"), { method: "POST" })).json();
export const mark = async (id, drawing, mark) =>
  (await send(place(id, "/marks"), json("POST", { drawing, mark }))).json();
export const keep = (id, name, kept) =>
  send(place(id, `/samples/${name}`), json("PATCH", { kept }));
