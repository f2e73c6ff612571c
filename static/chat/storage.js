// Browser storage. If it is full or forbidden, values are kept in memory until the page ends.

function kept(get) {
  const own = new Map();
  const tried = (action, otherwise) => {
    try {
      return action(get());
    } catch {
      return otherwise();
    }
  };
  return {
    get: (key) => own.get(key) ?? tried((storage) => storage.getItem(key), () => null),
    set(key, value) {
      own.delete(key);
      tried((storage) => storage.setItem(key, value), () => own.set(key, value));
    },
    remove(key) {
      own.delete(key);
      tried((storage) => storage.removeItem(key), () => undefined);
    },
    keys: (prefix) => {
      const stored = tried((storage) => Object.keys(storage), () => []);
      return [...new Set([...stored, ...own.keys()])].filter((key) => key.startsWith(prefix));
    },
  };
}

export const ofBrowser = kept(() => localStorage); // shared by all tabs
export const ofTab = kept(() => sessionStorage); // this tab's own, also after a reload
