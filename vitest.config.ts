import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: [
      'src/**/*.test.ts',
      'proto/**/*.test.ts',
      'agent/**/*.test.ts',
      'workers/**/*.test.ts',
      'test/**/*.test.ts',
    ],
  },
})
