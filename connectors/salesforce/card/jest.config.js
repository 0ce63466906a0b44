// The platform's own harness: it compiles components as an org does and stands in for what an org provides.
const { jestConfig } = require("@salesforce/sfdx-lwc-jest/config");

module.exports = { ...jestConfig, testMatch: ["**/__tests__/**/*.test.js"], watchman: false };
