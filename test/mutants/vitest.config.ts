import { configDefaults, defineConfig } from 'vitest/config'

// Which folder is looked through comes with each run: the tests that lie beside the code, not those in test/, which start processes.
export default defineConfig({
  test: {
    include: ['**/*.test.ts'],
    // It takes as long as all others beside it.
    exclude: [...configDefaults.exclude, '**/served-identities.test.ts'],
  },
})
