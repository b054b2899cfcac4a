// The last results, kept by the browser so that they outlive the page. Where it keeps nothing, they do not.

const STORE = "results";
const MAX_COUNT = 60;

let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("darkroom", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/** Runs `work(store)` in a transaction of its own; its result once that is through, else `otherwise`. */
async function within(mode, work, otherwise) {
  try {
    const transaction = (await open()).transaction(STORE, mode);
    const request = work(transaction.objectStore(STORE));
    return await new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  } catch {
    return otherwise;
  }
}

/** Keeps a result and, of all, the newest only. */
export async function keep(result) {
  await within("readwrite", (store) => {
    const request = store.add(result);
    const keys = store.getAllKeys();
    keys.onsuccess = () => { for (const key of keys.result.slice(0, -MAX_COUNT)) store.delete(key); };
    return request;
  });
}

/** Every result that is kept, the oldest first. */
export async function listKept() {
  return (await within("readonly", (store) => store.getAll(), [])) ?? [];
}

/** Forgets them all. */
export async function forgetKept() {
  await within("readwrite", (store) => store.clear());
}
